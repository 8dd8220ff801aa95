// The slides of a notebook, shown in the notebook itself: one slide at a time is left visible, and
// what students use (cells, outputs, widgets) is what is shown. The kinds of cells are those that
// nbconvert and others know: slide, subslide, fragment, -, notes, skip. Beside it, the names of
// views of an output, a word where a kernel does not know the course yet, and the launcher's entry
// for the cockpit, where Voilà is there to make its page.
(() => {
  "use strict";

  const HERE = ".labkit-presenting .jp-Notebook";
  const FOCUS = ":focus:not(input):not(select):not(textarea):not(button):not([role='slider'])";
  const KEYS = [
    ["labkit:slides-next", ["ArrowRight", "PageDown", "Space"]],
    ["labkit:slides-previous", ["ArrowLeft", "PageUp", "Shift Space"]],
    ["labkit:slides-first", ["Home"]],
    ["labkit:slides-last", ["End"]],
    ["labkit:slides-notes", ["N"]],
    ["labkit:slides", ["Escape"]],
  ];
  const STYLE = `
.labkit-presenting { --jp-content-font-size1: clamp(18px, 3vh, 38px);
  --jp-code-font-size: clamp(15px, 2.45vh, 30px); --jp-code-line-height: 1.3;
  --jp-cell-prompt-width: 0px; --jp-notebook-padding: 2vh; }
.labkit-presenting > .jp-Toolbar, .labkit-presenting .jp-Notebook-footer,
.labkit-presenting .jp-InputPrompt, .labkit-presenting .jp-OutputPrompt,
.labkit-presenting .jp-Collapser, .labkit-presenting .jp-cell-toolbar,
.labkit-presenting .jp-cell-menu, .labkit-presenting .labkit-off,
.labkit-presenting .jp-InternalAnchorLink { display: none !important; }
.labkit-presenting > .jp-Notebook, .labkit-presenting .jp-NotebookPanel-notebook {
  top: 0 !important; height: calc(100% - 4.2vh) !important; }
.labkit-presenting .jp-Cell { padding: 0.6vh 3vw; }
.labkit-presenting .labkit-note { opacity: 0.75; border-left: 6px solid #e69f00; }
.labkit-presenting .jp-RenderedHTMLCommon table { font-size: inherit; margin-left: 0; }
.labkit-presenting .jp-RenderedHTMLCommon td, .labkit-presenting .jp-RenderedHTMLCommon th {
  text-align: left; padding: 0.3em 0.5em; }
.labkit-presenting .jp-OutputArea img { max-height: 46vh; width: auto !important; }
.labkit-presenting .jp-Cell, .labkit-presenting .jp-MarkdownOutput {
  border-color: transparent !important; outline: none !important; box-shadow: none !important; }
.labkit-presenting .jp-RenderedText pre { line-height: 1.3; }
.labkit-slide-foot { position: absolute; inset: auto 0 0; z-index: 10; display: flex;
  justify-content: space-between; gap: 2em; padding: 0.5vh 3vw; font: 2.2vh sans-serif;
  color: var(--jp-ui-font-color1); background: var(--jp-layout-color0);
  border-top: 1px solid var(--jp-border-color2); }
.labkit-slide-foot b { font-weight: normal; white-space: nowrap; }
.jp-OutputArea-output.jp-RenderedText pre { word-break: normal; overflow-wrap: anywhere; }
.jp-OutputArea :is(td, th)[style*="text-align:left"]:nth-child(n+3) { overflow-wrap: anywhere;
  min-width: 4.5em; }
.jp-Placeholder-content, .jp-Placeholder-contentContainer { min-width: 0; overflow: hidden; }
.jp-RenderedHTMLCommon :is(h1, h2, h3) { line-height: 1.2; }
.labkit-live .labkit { zoom: 0.8; }
.labkit > .jupyter-widgets { max-width: calc(100% - 2 * var(--jp-widgets-margin, 2px)); }
.labkit-live .jp-OutputArea:not(:has(.jp-OutputArea-child))::before,
.labkit-old .jp-OutputArea:not(:has(.jupyter-widgets))::before { display: block;
  padding: 12px; color: var(--jp-ui-font-color2);
  content: "Lancez la cellule de la section « Le cluster en direct » : il paraîtra ici."; }
.labkit-old .jp-OutputArea:has(.jp-OutputArea-child):not(:has(.jupyter-widgets))::before {
  content: "La séance d’avant est finie. Relancez la cellule de la section « Le cluster en direct » : il paraîtra ici."; }
.labkit-old .jp-OutputArea:not(:has(.jupyter-widgets)) .jp-OutputArea-child { display: none; }
@media (min-height: 1000px) { .labkit-presenting .jp-OutputArea .labkit { zoom: 1.45; } }`;

  class Deck {
    constructor(panel) {
      this.panel = panel;
      this.notes = false;
      this.foot = document.createElement("div");
      this.foot.className = "labkit-slide-foot";
      this.foot.setAttribute("aria-live", "polite");
      this.slides = [];
      const cells = panel.content.widgets;
      for (const [index, cell] of cells.entries()) {
        const kind = cell.model.getMetadata("slideshow")?.slide_type ?? "-";
        if (kind === "skip") continue;
        if (kind === "slide" || kind === "subslide" || !this.slides.length) {
          this.slides.push([]);
        }
        this.slides.at(-1).push({ index, cell, kind });
      }
      this.slides = this.slides.filter((slide) => slide.some(({ kind }) => kind !== "notes"));
      const active = panel.content.activeCellIndex;
      const found = this.slides.findLastIndex((slide) => slide[0].index <= active);
      this.at = Math.max(0, found);
      this.step = active > 0 ? this.steps : 0;
    }

    // what scrolls
    get page() {
      const { node } = this.panel.content;
      return node.querySelector(".jp-WindowedPanel-outer") ?? node;
    }

    // how many fragments the slide has
    get steps() {
      return this.slides[this.at]?.filter(({ kind }) => kind === "fragment").length ?? 0;
    }

    start() {
      this.panel.addClass("labkit-presenting");
      this.panel.node.append(this.foot);
      this.panel.node.requestFullscreen?.().catch(() => undefined);
      this.show();
    }

    stop() {
      this.panel.removeClass("labkit-presenting");
      for (const cell of this.panel.content.widgets) {
        cell.node.classList.remove("labkit-off", "labkit-note");
      }
      this.foot.remove();
      if (document.fullscreenElement === this.panel.node) document.exitFullscreen();
    }

    go(at, step) {
      this.at = Math.min(Math.max(at, 0), this.slides.length - 1);
      this.step = step === "all" ? this.steps : step;
      this.show();
    }

    // the next part of a slide that is higher than the page; else the next fragment, or slide
    next() {
      const { page } = this;
      const hidden = this.end.getBoundingClientRect().bottom - page.getBoundingClientRect().bottom;
      const before = page.scrollTop;
      if (hidden > 1) page.scrollBy(0, Math.min(hidden, 0.85 * page.clientHeight));
      if (page.scrollTop !== before) return;
      if (this.step < this.steps) this.go(this.at, this.step + 1);
      else if (this.at < this.slides.length - 1) this.go(this.at + 1, 0);
    }

    previous() {
      if (this.step > 0) this.go(this.at, this.step - 1);
      else if (this.at > 0) this.go(this.at - 1, "all");
    }

    show() {
      const notebook = this.panel.content;
      const visible = new Set();
      let fragments = 0;
      let last = null;
      for (const { index, cell, kind } of this.slides[this.at] ?? []) {
        // notes are those of the whole slide, whatever of it is shown so far
        if (kind === "notes" ? !this.notes : kind === "fragment" && ++fragments > this.step) continue;
        if (kind === "-" && fragments > this.step) continue; // belongs to what is before it
        visible.add(cell);
        cell.node.classList.toggle("labkit-note", kind === "notes");
        if (kind !== "notes") last = index;
      }
      for (const cell of notebook.widgets) {
        cell.node.classList.toggle("labkit-off", !visible.has(cell));
      }
      if (last === null) return;
      notebook.deselectAll();
      notebook.activeCellIndex = last;
      notebook.mode = "command";
      notebook.activeCell.node.focus({ preventScroll: true });
      const shown = this.step === 0 ? [...visible][0].node : notebook.activeCell.node;
      const high = shown.clientHeight > this.page.clientHeight;
      shown.scrollIntoView({ block: this.step === 0 || high ? "start" : "nearest" });
      this.end = [...visible].at(-1).node;
      const place = `${this.at + 1} / ${this.slides.length}`;
      this.foot.replaceChildren(
        Object.assign(document.createElement("span"), { textContent: this.title(last) }),
        Object.assign(document.createElement("b"), { textContent: place }),
      );
    }

    // the title of the section that a cell is in, unless the slide begins with it
    title(index) {
      const first = this.slides[this.at][0].index;
      for (let at = index; at >= 0; at--) {
        const { type, sharedModel } = this.panel.content.widgets[at].model;
        const found = type === "markdown" && /^##? +(.+)/.exec(sharedModel.getSource());
        if (found) return at === first ? "" : found[1].replace(/[`*]/g, "");
      }
      return "";
    }
  }

  function activate(app, tracker, CommandToolbarButton) {
    document.head.append(Object.assign(document.createElement("style"), { textContent: STYLE }));
    let deck = null;
    const stop = () => {
      deck?.stop();
      deck = null;
    };
    document.addEventListener("fullscreenchange", () => {
      if (!document.fullscreenElement) stop();
    });
    const commands = {
      "labkit:slides-next": () => deck?.next(),
      "labkit:slides-previous": () => deck?.previous(),
      "labkit:slides-first": () => deck?.go(0, 0),
      "labkit:slides-last": () => deck?.go(Infinity, "all"),
      "labkit:slides-notes": () => {
        if (!deck) return;
        deck.notes = !deck.notes;
        deck.show();
      },
      "labkit:slides-run": () => app.commands.execute("notebook:run-cell"),
      "labkit:slides": () => {
        if (deck) return stop();
        if (!tracker.currentWidget) return;
        deck = new Deck(tracker.currentWidget);
        if (deck.slides.length) deck.start();
        else deck = null;
      },
    };
    for (const [name, execute] of Object.entries(commands)) {
      const label = name === "labkit:slides" ? "Présenter" : name;
      const caption = "Montrer ce notebook en diapositives (Alt R)";
      app.commands.addCommand(name, { label, caption, execute: () => void execute() });
    }
    const selector = `${HERE}.jp-mod-commandMode:not(.jp-mod-readWrite) ${FOCUS}`;
    for (const [command, all] of KEYS) {
      for (const keys of all) app.commands.addKeyBinding({ command, keys: [keys], selector });
    }
    app.commands.addKeyBinding({
      command: "labkit:slides-run", keys: ["Shift Enter"], selector: `${HERE} :focus`,
    });
    app.commands.addKeyBinding({ command: "labkit:slides", keys: ["Alt R"], selector: "body" });
    const equip = (panel) => {
      const button = new CommandToolbarButton({ commands: app.commands, id: "labkit:slides" });
      panel.toolbar.insertBefore("kernelName", "labkit-slides", button);
      panel.disposed.connect(() => deck?.panel === panel && stop());
    };
    tracker.forEach(equip);
    tracker.widgetAdded.connect((_, panel) => equip(panel));
  }

  // JupyterLab names every view of an output alike, in English, and draws no widget in one that
  // comes back with the page: a new view is drawn once the kernel's widgets are known
  const TRIES = 30;

  function mendViews(app, tracker) {
    const known = new WeakSet();
    const mend = async ({ content }) => {
      if (!content?.hasClass?.("jp-LinkedOutputView") || known.has(content)) return;
      const panel = tracker.find(({ context }) => context.path === content.path);
      if (!panel) return;
      known.add(content);
      await panel.context.ready;
      const cell = panel.content.widgets[content.index];
      const live = cell?.model.id === "vue";
      content.title.label = live ? "Le cluster en direct" : "Vue de la sortie";
      content.toggleClass("labkit-live", live);
      await panel.sessionContext.ready;
      const again = () => {
        content.widgets[0].dispose();
        content.addWidget(cell.cloneOutputArea());
      };
      for (let tries = 0; tries < TRIES && cell && !content.isDisposed; tries += 1) {
        if (!content.node.textContent.includes("Loading widget")) break;
        again();
        await new Promise((done) => { setTimeout(done, 1000); });
      }
      content.toggleClass("labkit-old", live); // what is still no widget was one in another session
      cell?.model.outputs?.changed.connect(() => setTimeout(() => {
        if (!content.isDisposed && !content.node.querySelector(".jupyter-widgets")) again();
      }, 1000));
    };
    const all = () => Array.from(app.shell.widgets("main")).forEach(mend);
    app.shell.layoutModified.connect(all);
    app.restored.then(all);
  }

  // A kernel that restarts forgets the course, and says so in Python's words only
  const UNKNOWN = /^name '(\w+)' is not defined|^UsageError: Cell magic `%%(reponse|solution|etape)`/;
  const FIRST = "Le noyau ne connaît pas encore le cours : lancez la première cellule de code de ce "
    + "notebook, puis recommencez.";

  function pointToFirstCell(app, tracker) {
    const follow = (panel) => panel.sessionContext.iopubMessage.connect((_, { content }) => {
      const [, name, magic] = UNKNOWN.exec(content.evalue ?? content.text ?? "") ?? [];
      const first = panel.content.widgets.find(({ model }) => model.type === "code");
      const source = first?.model.sharedModel.getSource() ?? "";
      const brought = source.match(/\w+/g)?.concat("solution", "rattraper", "repondre") ?? [];
      if (!/^from labkit/m.test(source) || !(magic || brought.includes(name))) return;
      app.commands.execute("apputils:notify", {
        message: FIRST, type: "warning", options: { autoClose: 15000 },
      });
    });
    tracker.forEach(follow);
    tracker.widgetAdded.connect((_, panel) => follow(panel));
  }

  const COCKPITS = ["cockpit/cockpit.ipynb", "notebooks/cockpit/cockpit.ipynb"];
  const ICON = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 52 52">
<rect x="2" y="6" width="48" height="34" rx="4" fill="#16191d"/>
<rect x="7" y="12" width="10" height="22" rx="2" fill="#0072b2"/>
<rect x="21" y="12" width="10" height="22" rx="2" fill="#e69f00"/>
<rect x="35" y="12" width="10" height="22" rx="2" fill="#009e73"/>
<rect x="18" y="43" width="16" height="4" rx="2" fill="#565d66"/></svg>`;

  async function offerCockpit(app, launcher, LabIcon) {
    const voila = app.listPlugins().some((id) => id.startsWith("@voila-dashboards/"));
    if (!launcher || !voila) return;
    const { contents, serverSettings } = app.serviceManager;
    const there = async (path) => contents.get(path, { content: false }).then(() => path);
    const path = await Promise.any(COCKPITS.map(there)).catch(() => null);
    if (path === null) return;
    app.commands.addCommand("labkit:cockpit", {
      label: "Cockpit",
      caption: "Le cluster en grand, pour le projecteur",
      icon: new LabIcon({ name: "labkit:cockpit", svgstr: ICON }),
      execute: () => void window.open(`${serverSettings.baseUrl}voila/render/${path}`),
    });
    launcher.add({ command: "labkit:cockpit", category: "Notebook", rank: 10 });
  }

  // what JupyterLab asks of an extension that comes built
  let shared = null;
  const load = async (name) => (await Object.values(shared[name])[0].get())();
  window._JUPYTERLAB = window._JUPYTERLAB ?? {};
  window._JUPYTERLAB["labkit-lab"] = {
    init: (scope) => {
      shared = scope;
    },
    get: async () => {
      const { INotebookTracker } = await load("@jupyterlab/notebook");
      const { CommandToolbarButton } = await load("@jupyterlab/apputils");
      const { ILauncher } = await load("@jupyterlab/launcher");
      const { LabIcon } = await load("@jupyterlab/ui-components");
      const plugin = {
        id: "labkit-lab:plugin",
        autoStart: true,
        requires: [INotebookTracker],
        optional: [ILauncher],
        activate: (app, tracker, launcher) => {
          activate(app, tracker, CommandToolbarButton);
          mendViews(app, tracker);
          pointToFirstCell(app, tracker);
          app.restored.then(() => offerCockpit(app, launcher, LabIcon));
        },
      };
      return () => plugin;
    },
  };
})();
