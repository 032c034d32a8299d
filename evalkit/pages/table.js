"use strict";
// <table data-sortable id=ID>: sort by the headings' buttons, filter by text, hide columns.
//   th[data-key]        name of the column in the state (else its number); th[data-plain]: not sorted by
//   th[data-first=descending]  the direction of the first press
//   td[data-value]      what is sorted by: a number or text; empty: always last. Without it, the cell's text.
//   tr[data-filter]     what the text filter looks into; without it, the row's text
//   table[data-filter-label]   label of the text filter; table[data-no-tools]: sorting only
//   <select data-filter-for=ID name=KEY>: keeps rows whose data-KEY is the chosen value; "" keeps all
//   table[data-url-state]      sort, filter, hidden columns and selects are kept in the URL's hash, as NAME=VALUE&...;
//                              a hash without "=" is a link to a place on the page, and changes nothing
(() => {
  const ORDERS = { ascending: 1, descending: -1 };
  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

  const isPlace = () => location.hash.length > 1 && !location.hash.includes("=");
  const hashState = () => new URLSearchParams(isPlace() ? "" : location.hash.slice(1));
  function keep(key, value) {
    const state = hashState();
    if ((state.get(key) ?? "") === value) return;
    if (value) state.set(key, value);
    else state.delete(key);
    const text = state.toString();
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  }

  function element(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  function seenText(cell) {
    const copy = cell.cloneNode(true);
    copy.querySelectorAll(".unseen").forEach((each) => each.remove());
    return copy.textContent.trim();
  }

  function valueOf(cell) {
    if (!cell) return null;
    const text = (cell.dataset.value ?? cell.textContent).trim();
    if (text === "") return null;
    const number = Number(text);
    return Number.isNaN(number) ? text : number;
  }

  function compare(a, b, order) {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === "number" && typeof b === "number") return order * (a - b);
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return order * collator.compare(a, b);
  }

  function enhance(table) {
    const head = table.tHead.rows[table.tHead.rows.length - 1];
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const headings = [...head.cells];
    const keys = headings.map((cell, index) => cell.dataset.key ?? String(index));
    const selects = [...document.querySelectorAll("select[data-filter-for]")].filter(
      (select) => select.dataset.filterFor === table.id,
    );
    const remember = table.hasAttribute("data-url-state");
    const name = (what) => `${table.id}.${what}`;
    const save = (what, value) => remember && keep(name(what), value);
    let sorted = { key: "", order: "" };
    const hidden = new Set();

    function sort(key, order) {
      const column = keys.indexOf(key);
      sorted = column < 0 || !ORDERS[order] ? { key: "", order: "" } : { key, order };
      headings.forEach((cell, index) => {
        if (index === column && sorted.order) cell.setAttribute("aria-sort", sorted.order);
        else cell.removeAttribute("aria-sort");
      });
      const ordered = [...rows];
      if (sorted.order) {
        const values = new Map(rows.map((row) => [row, valueOf(row.cells[column])]));
        ordered.sort((a, b) => compare(values.get(a), values.get(b), ORDERS[sorted.order]));
      }
      body.append(...ordered);
      save("sort", sorted.order && `${sorted.key}:${sorted.order}`);
    }

    headings.forEach((cell, index) => {
      if (cell.hasAttribute("data-plain")) return;
      const button = element("button", { type: "button", className: "sort" }, ...cell.childNodes);
      cell.append(button);
      const first = cell.dataset.first === "descending" ? "descending" : "ascending";
      const second = first === "ascending" ? "descending" : "ascending";
      button.addEventListener("click", () => {
        const order = sorted.key !== keys[index] ? first : sorted.order === first ? second : "";
        sort(keys[index], order);
      });
    });

    const count = element("output", { className: "count" });
    const input = element("input", { type: "search", autocomplete: "off", spellcheck: false });
    function filter() {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const text = (row.dataset.filter ?? row.textContent).toLowerCase();
        const kept =
          words.every((word) => text.includes(word)) &&
          selects.every((select) => !select.value || row.dataset[select.name] === select.value);
        row.hidden = !kept;
        shown += kept;
      }
      const all = `${rows.length} ${rows.length === 1 ? "row" : "rows"}`;
      count.textContent = shown === rows.length ? all : `${shown} of ${all}`;
      save("filter", input.value.trim());
      for (const select of selects) save(select.name, select.value);
      document.dispatchEvent(new Event("tips:refresh"));
    }
    input.addEventListener("input", filter);
    for (const select of selects) select.addEventListener("change", filter);

    const boxes = new Map();
    function hide(key, off) {
      const index = keys.indexOf(key);
      if (index < 1) return; // the first column names the row
      if (off) hidden.add(key);
      else hidden.delete(key);
      for (const row of [head, ...rows]) if (row.cells[index]) row.cells[index].hidden = off;
      if (boxes.has(key)) boxes.get(key).checked = !off;
      save("hide", [...hidden].join(","));
      document.dispatchEvent(new Event("tips:refresh"));
    }

    if (!table.hasAttribute("data-no-tools")) {
      const list = element("div", { className: "column-list" });
      headings.forEach((cell, index) => {
        if (index < 1) return;
        const box = element("input", { type: "checkbox", checked: true });
        boxes.set(keys[index], box);
        box.addEventListener("change", () => hide(keys[index], !box.checked));
        list.append(element("label", {}, box, ` ${seenText(cell)}`));
      });
      const label = element("label", {}, `${table.dataset.filterLabel || "Filter rows"} `, input);
      const columns = element("details", { className: "columns" }, element("summary", {}, "Columns"), list);
      const tools = element("div", { className: "tools" }, label, count, columns);
      (table.closest(".scroll") || table).before(tools);
    }

    function restore() {
      const state = hashState();
      input.value = state.get(name("filter")) ?? "";
      for (const select of selects) {
        const wanted = state.get(name(select.name)) ?? "";
        select.value = [...select.options].some((option) => option.value === wanted) ? wanted : "";
      }
      const off = new Set((state.get(name("hide")) ?? "").split(","));
      for (const key of keys) if (off.has(key) !== hidden.has(key)) hide(key, off.has(key));
      const [key, order] = (state.get(name("sort")) ?? "").split(":");
      if (ORDERS[order] || sorted.order) sort(key, order);
      filter();
    }
    if (remember) {
      restore();
      addEventListener("hashchange", () => isPlace() || restore());
    } else {
      filter();
    }
  }

  for (const table of document.querySelectorAll("table[data-sortable]")) if (table.tHead && table.tBodies[0]) enhance(table);
})();
