"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const stage = document.getElementById("stage");
const detail = document.getElementById("detail");
const pictures = [...stage.querySelectorAll("svg")];
const tabs = [...document.querySelectorAll("nav button")];
let current = 0, box = null, pinned = null;

const all = (selector) => [...pictures[current].querySelectorAll(selector)];
const apply = () => pictures[current].setAttribute("viewBox", box.join(" "));

// --- pan and zoom -------------------------------------------------------------------------------
function fit(whole) {
  const [w, h] = data.views[current].size;
  const room = stage.clientHeight / stage.clientWidth;
  const width = whole ? Math.max(w, h / room) : Math.max(w, Math.min(h / room, w * 1.6));
  box = [(w - width) / 2, whole && h < width * room ? (h - width * room) / 2 : 0, width, width * room];
  apply();
}
function zoom(factor, x = 0.5, y = 0.5) {
  const [w, h] = data.views[current].size;
  const width = Math.min(Math.max(box[2] * factor, 120), 8 * Math.max(w, h));
  const scale = width / box[2];
  box = [box[0] + box[2] * (1 - scale) * x, box[1] + box[3] * (1 - scale) * y, width, box[3] * scale];
  apply();
}
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  const size = stage.getBoundingClientRect();
  if (event.ctrlKey || event.metaKey) {
    const x = (event.clientX - size.left) / size.width, y = (event.clientY - size.top) / size.height;
    zoom(Math.exp(event.deltaY / 300), x, y);
  } else {
    const unit = box[2] / size.width;
    box[0] += event.deltaX * unit;
    box[1] += event.deltaY * unit;
    apply();
  }
}, { passive: false });
let drag = null;
stage.addEventListener("pointerdown", (event) => {
  if (event.target.closest("button")) return;
  drag = { x: event.clientX, y: event.clientY, box: [...box], moved: false };
});
stage.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const unit = box[2] / stage.clientWidth;
  const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
  if (!drag.moved && Math.hypot(dx, dy) < 4) return;
  if (!drag.moved) stage.setPointerCapture(event.pointerId);
  drag.moved = true;
  stage.classList.add("drag");
  box = [drag.box[0] - dx * unit, drag.box[1] - dy * unit, box[2], box[3]];
  apply();
});
stage.addEventListener("pointerup", (event) => {
  const clicked = drag && !drag.moved;
  drag = null;
  stage.classList.remove("drag");
  if (!clicked) return;
  const item = event.target.closest("[data-item]");
  pinned = item ? item.dataset.item : null;
  show(pinned);
});

// --- items and source lines ---------------------------------------------------------------------
function show(number) {
  const items = data.views[current].items;
  reveal(light(number === null ? [] : [number]));
  if (number === null) {
    detail.replaceChildren("Point at a box or at a line of the source. Drag to move, ctrl + wheel to zoom.");
    return;
  }
  const item = items[number];
  const title = Object.assign(document.createElement("h2"), { textContent: item.title });
  const code = Object.assign(document.createElement("code"), { textContent: item.text });
  const loc = Object.assign(document.createElement("div"), { className: "loc", textContent: item.loc });
  detail.replaceChildren(title, code, loc);
}
function light(numbers) {
  const chosen = new Set(numbers.map(String));
  for (const element of all("[data-item]"))
    element.classList.toggle("lit", chosen.has(element.dataset.item));
  for (const edge of all(".edge"))
    edge.classList.toggle("lit", chosen.has(edge.dataset.from) || chosen.has(edge.dataset.to));
  const items = data.views[current].items;
  const lines = new Set([...chosen].flatMap((n) => items[n].lines));
  let first = null;
  for (const line of document.querySelectorAll("pre div")) {
    line.classList.toggle("lit", lines.has(line.dataset.line));
    if (lines.has(line.dataset.line)) first ??= line;
  }
  return first;
}
function reveal(line) {
  const list = document.getElementById("source");
  if (line) list.scrollTop = line.offsetTop - list.offsetTop - list.clientHeight / 3;
}
function itemsAt(line) {
  return data.views[current].items.flatMap((item, n) => (item.lines.includes(line) ? [n] : []));
}
stage.addEventListener("pointerover", (event) => {
  if (pinned !== null || drag) return;
  const item = event.target.closest("[data-item]");
  if (item) show(item.dataset.item);
});
for (const line of document.querySelectorAll("pre .used")) {
  line.addEventListener("pointerenter", () => light(itemsAt(line.dataset.line)));
  line.addEventListener("click", () => centre(itemsAt(line.dataset.line)[0]));
}
for (const row of document.querySelectorAll("tr[data-title]")) {
  const found = () => data.views[current].items.findIndex((item) => item.title === row.dataset.title);
  row.addEventListener("pointerenter", () => found() >= 0 && show(String(found())));
  row.addEventListener("click", () => centre(found()));
}
function centre(number) {
  if (number === undefined || number < 0) return;
  const element = all(`[data-item="${number}"]`)[0];
  if (!element) return;
  const area = element.getBBox(), shift = element.getCTM(), root = pictures[current].getScreenCTM();
  const at = new DOMPoint(area.x + area.width / 2, area.y + area.height / 2)
    .matrixTransform(element.getScreenCTM()).matrixTransform(root.inverse());
  if (!shift) return;
  box = [at.x - box[2] / 2, at.y - box[3] / 2, box[2], box[3]];
  apply();
  show(String(number));
}

// --- tabs and keys ------------------------------------------------------------------------------
function open(number) {
  current = number;
  pinned = null;
  pictures.forEach((picture, n) => picture.classList.toggle("on", n === number));
  tabs.forEach((tab, n) => tab.classList.toggle("on", n === number));
  document.querySelector("header .note").textContent = data.views[number].note;
  fit(false);
  show(null);
}
tabs.forEach((tab, n) => tab.addEventListener("click", () => open(n)));
document.getElementById("in").addEventListener("click", () => zoom(0.8));
document.getElementById("out").addEventListener("click", () => zoom(1.25));
document.getElementById("fit").addEventListener("click", () => fit(true));
document.addEventListener("keydown", (event) => {
  const step = { "+": 0.8, "=": 0.8, "-": 1.25 }[event.key];
  if (step) zoom(step);
  else if (event.key === "0") fit(true);
  else if (event.key === "Escape") { pinned = null; show(null); }
  else if (/^[1-9]$/.test(event.key) && pictures[event.key - 1]) open(event.key - 1);
});
window.addEventListener("resize", () => fit(false));
open(0);
reveal(document.querySelector("pre .used"));
