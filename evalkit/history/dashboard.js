"use strict";
// The choices over the leaderboards: which data set and protocol, which metric's column, which rows. They are kept in
// the URL's hash under their names, beside what the tables keep there.
(() => {
  const form = document.getElementById("choices");
  if (!form) return;
  const controls = [...form.querySelectorAll("select, input")];
  const boards = [...document.querySelectorAll("section[data-dataset]")];
  const status = document.getElementById("shown");
  // A hash without "=" is a link to a place on the page, as in table.js.
  const isPlace = () => location.hash.length > 1 && !location.hash.includes("=");
  const state = () => new URLSearchParams(isPlace() ? "" : location.hash.slice(1));

  function apply() {
    const { dataset, protocol, metric, text } = Object.fromEntries(controls.map(({ name, value }) => [name, value]));
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    let total = 0;
    for (const board of boards) {
      const rows = [...board.querySelectorAll("tbody tr")];
      const asked = (!dataset || board.dataset.dataset === dataset) && (!protocol || board.dataset.protocol === protocol);
      let kept = 0;
      for (const row of rows) {
        const content = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => content.includes(word));
        kept += !row.hidden;
      }
      const headings = [...board.querySelectorAll("thead th")];
      const has = !metric || headings.some((cell) => cell.dataset.key === metric);
      headings.forEach((heading, index) => {
        const off = Boolean(metric) && heading.hasAttribute("data-metric") && heading.dataset.key !== metric;
        heading.hidden = off;
        for (const row of rows) row.cells[index].hidden = off;
      });
      board.hidden = !asked || !has || (words.length > 0 && kept === 0);
      total += rows.length;
      if (!board.hidden) shown += kept;
    }
    const all = `${total} row${total === 1 ? "" : "s"}`;
    status.textContent = shown === total ? all : `${shown} of ${all}`;
    document.dispatchEvent(new Event("tips:refresh"));
  }

  function keep() {
    const kept = state();
    for (const { name, value } of controls) {
      if (value.trim()) kept.set(name, value.trim());
      else kept.delete(name);
    }
    const text = kept.toString();
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  }

  function restore() {
    const kept = state();
    for (const control of controls) {
      const wanted = kept.get(control.name) ?? "";
      const known = !control.options || [...control.options].some((option) => option.value === wanted);
      control.value = known ? wanted : "";
    }
    apply();
  }

  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => {
    keep();
    apply();
  });
  addEventListener("hashchange", () => isPlace() || restore());
  restore();
})();
