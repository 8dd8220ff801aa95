// To a page of an origin of its own, browsers refuse these with an error that many a program dies of.
{
const store = {
  getItem(name) { return Object.hasOwn(this, name) ? this[name] : null; },
  setItem(name, value) { this[name] = String(value); },
  removeItem(name) { delete this[name]; },
  clear() { Object.keys(this).forEach(name => delete this[name]); },
  key(place) { return Object.keys(this)[place] ?? null; },
  get length() { return Object.keys(this).length; },
};
for (const name of ["localStorage", "sessionStorage"])
  Object.defineProperty(window, name, {value: Object.create(store)});
Object.defineProperty(document, "cookie", {value: "", writable: true});
}
