/**
 * Elements in one call, and `patch`, which brings what is shown up to a newer picture of itself
 * without losing focus, selection or scroll positions.
 */

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set(["value", "checked", "disabled", "selected", "open", "data", "hidden"]);

/** An HTML element; `on` holds listeners, `style` goes around the policy that bans attributes. */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props ?? {}, children);
}

/** The same for SVG. */
export function s(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props ?? {}, children);
}

function fill(node, { on, style, key, ...attributes }, children) {
  node.key = key;
  node.listeners = {};
  for (const [type, listener] of Object.entries(on ?? {})) listen(node, type, listener);
  for (const [name, value] of Object.entries(style ?? {})) node.style.setProperty(name, value);
  for (const [name, value] of Object.entries(attributes)) set(node, name, value);
  node.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return node;
}

function set(node, name, value) {
  if (value == null || value === false) return;
  if (PROPERTIES.has(name) && name in node) {
    node[name] = value;
    (node.given ??= {})[name] = value;
  } else {
    node.setAttribute(name, value === true ? "" : value);
  }
}

/** One listener a type, which asks for what is current: `patch` only has to exchange functions. */
function listen(node, type, listener) {
  node.listeners[type] = listener;
  node.addEventListener(type, call);
}

function call(event) {
  return event.currentTarget.listeners[event.type]?.call(event.currentTarget, event);
}

/** Replace what a container shows; nodes that stay the same stay in place. */
export function render(container, ...children) {
  const fresh = document.createElement("div");
  fresh.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  patchChildren(container, fresh);
}

function isAlike(old, fresh) {
  return old.nodeName === fresh.nodeName && old.key === fresh.key;
}

function patch(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  patchAttributes(old, fresh);
  patchListeners(old, fresh);
  for (const [name, value] of Object.entries(fresh.given ?? {})) {
    const isTyped = name === "value" && old === document.activeElement;
    if (!isTyped && old[name] !== value) old[name] = value;
  }
  for (const name of Object.keys(old.given ?? {})) {
    if (!(name in (fresh.given ?? {})) && typeof old[name] === "boolean") old[name] = false;
  }
  old.given = fresh.given;
  if (!old.nodeName.includes("-")) patchChildren(old, fresh); // elements of ours draw themselves
}

function patchAttributes(old, fresh) {
  for (const { name } of [...old.attributes]) {
    const isOwn = name === "open" || name === "style" || (name === "class" && isCustom(old));
    if (!isOwn && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of [...fresh.attributes]) {
    if (name !== "style" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const name of fresh.style ?? []) {
    const value = fresh.style.getPropertyValue(name);
    if (old.style.getPropertyValue(name) !== value) old.style.setProperty(name, value);
  }
}

function isCustom(node) {
  return node.nodeName.includes("-");
}

function patchListeners(old, fresh) {
  for (const type of Object.keys(fresh.listeners ?? {})) {
    if (!(type in (old.listeners ??= {}))) old.addEventListener(type, call);
  }
  old.listeners = fresh.listeners;
}

function patchChildren(old, fresh) {
  const keyed = new Map();
  const others = [];
  for (const child of [...old.childNodes]) {
    if (child.key == null) others.push(child);
    else keyed.set(child.key, child);
  }
  let place = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const kept = take(child, keyed, others);
    if (kept) patch(kept, child);
    const node = kept ?? child;
    if (node === place) place = place.nextSibling;
    else old.insertBefore(node, place);
  }
  for (const child of [...keyed.values(), ...others]) child.remove();
}

function take(child, keyed, others) {
  if (child.key != null) {
    const kept = keyed.get(child.key);
    if (!kept || !isAlike(kept, child)) return null;
    keyed.delete(child.key);
    return kept;
  }
  const index = others.findIndex((other) => isAlike(other, child));
  return index < 0 ? null : others.splice(index, 1)[0];
}
