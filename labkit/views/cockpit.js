export default {
  render({ model, el }) {
    const page = el.ownerDocument;
    const hear = (event) => {
      const typing = event.target.closest?.("input, select, textarea, [contenteditable]");
      const other = event.ctrlKey || event.altKey || event.metaKey;
      if (typing || other || el.closest(".jp-NotebookPanel")) return;
      model.send({ key: event.key });
    };
    page.addEventListener("keydown", hear);
    return () => page.removeEventListener("keydown", hear);
  },
};
