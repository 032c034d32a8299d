"use strict";
// [data-tip] inside a [data-tips]: its text beside it on hover, focus and tap. Each [data-tips] is one stop of the Tab
// key; arrow keys, Home and End go on from there (up and down by column within a table); Escape closes.
(() => {
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.setAttribute("role", "tooltip");
  tip.hidden = true;
  document.body.append(tip);
  let owner = null;

  const visible = (element) => element.getClientRects().length > 0;
  const members = (group) => [...group.querySelectorAll("[data-tip]")].filter(visible);

  function show(element) {
    hide();
    owner = element;
    tip.textContent = element.dataset.tip;
    tip.hidden = false;
    if (!(element instanceof SVGElement)) element.setAttribute("aria-describedby", "tip");
    const box = element.getBoundingClientRect();
    const own = tip.getBoundingClientRect();
    const width = document.documentElement.clientWidth;
    const left = Math.max(4, Math.min(box.left + box.width / 2 - own.width / 2, width - own.width - 4));
    const above = box.top - own.height - 8;
    tip.style.left = `${left + scrollX}px`;
    tip.style.top = `${(above > 4 ? above : box.bottom + 8) + scrollY}px`;
  }

  function hide() {
    tip.hidden = true;
    if (owner) owner.removeAttribute("aria-describedby");
    owner = null;
  }

  function makeStop(element) {
    const group = element.closest("[data-tips]");
    for (const other of group.querySelectorAll('[data-tip][tabindex="0"]')) other.tabIndex = -1;
    element.tabIndex = 0;
  }

  // Of a hidden member nobody can take the focus: the stop moves to the first that is seen.
  function refresh(group) {
    const seen = members(group);
    if (seen.length && !seen.some((element) => element.getAttribute("tabindex") === "0")) makeStop(seen[0]);
  }

  function below(element, step) {
    const cell = element.closest("td, th");
    let row = cell && cell.parentElement;
    while (row) {
      row = step > 0 ? row.nextElementSibling : row.previousElementSibling;
      if (!row || row.hidden) continue;
      const found = row.cells[cell.cellIndex];
      if (found && found.matches("[data-tip]")) return found;
    }
    return null;
  }

  function target(element, key) {
    const all = members(element.closest("[data-tips]"));
    const at = all.indexOf(element);
    if (key === "Home") return all[0];
    if (key === "End") return all[all.length - 1];
    if (key === "ArrowRight") return all[at + 1];
    if (key === "ArrowLeft") return all[at - 1];
    const step = { ArrowDown: 1, ArrowUp: -1 }[key];
    if (!step) return undefined;
    return element.closest("table") ? below(element, step) : all[at + step];
  }

  for (const group of document.querySelectorAll("[data-tips]")) {
    for (const element of group.querySelectorAll("[data-tip]")) {
      element.setAttribute("tabindex", "-1");
      if (element instanceof SVGElement) {
        // A part of a drawing has no text of its own that a screen reader would read.
        element.setAttribute("role", "img");
        element.setAttribute("aria-label", element.dataset.tip);
      }
    }
    refresh(group);
  }
  // Fired by whatever hides or shows members: table.js, a chart's selector.
  document.addEventListener("tips:refresh", () => document.querySelectorAll("[data-tips]").forEach(refresh));

  const ofEvent = (event) => (event.target instanceof Element ? event.target.closest("[data-tips] [data-tip]") : null);
  document.addEventListener("pointerover", (event) => {
    const element = ofEvent(event);
    if (element && element !== owner) show(element);
  });
  document.addEventListener("pointerout", (event) => {
    if (owner && ofEvent(event) === owner && owner !== document.activeElement) hide();
  });
  document.addEventListener("focusin", (event) => {
    const element = ofEvent(event);
    if (!element) return hide();
    makeStop(element);
    show(element);
  });
  document.addEventListener("focusout", hide);
  document.addEventListener("keydown", (event) => {
    const element = ofEvent(event);
    if (event.key === "Escape") return hide();
    if (!element || event.ctrlKey || event.altKey || event.metaKey) return;
    const next = target(element, event.key);
    if (next === undefined && !event.key.startsWith("Arrow")) return;
    event.preventDefault();
    if (next) next.focus();
  });
})();
