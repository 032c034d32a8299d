"use strict";
(() => {
  // One panel of a chart at a time; without scripts all are there.
  for (const select of document.querySelectorAll("select[data-panels]")) {
    const figure = document.getElementById(select.dataset.panels);
    const panels = figure.querySelectorAll(".panel");
    const show = () => {
      panels.forEach((panel, index) => {
        panel.hidden = index !== Number(select.value);
      });
      document.dispatchEvent(new Event("tips:refresh"));
    };
    select.closest(".tools").hidden = false;
    figure.classList.add("chosen");
    select.addEventListener("change", show);
    show();
  }

  const said = document.getElementById("said");
  let timer = 0;
  function say(text) {
    said.textContent = text;
    clearTimeout(timer);
    timer = setTimeout(() => {
      said.textContent = "";
    }, 6000);
  }

  function copyOldWay(text) {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "unseen";
    document.body.append(area);
    area.select();
    let done = false;
    try {
      done = document.execCommand("copy");
    } catch {
      done = false;
    }
    area.remove();
    return done;
  }

  // Where the browser lets a page have no clipboard, the text is shown to be copied by hand.
  function showByHand(text, label) {
    const dialog = document.createElement("dialog");
    dialog.className = "copy-by-hand";
    dialog.setAttribute("aria-label", label);
    const area = document.createElement("textarea");
    area.readOnly = true;
    area.value = text;
    area.setAttribute("aria-label", label);
    const close = document.createElement("button");
    close.type = "button";
    close.textContent = "Close";
    close.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => dialog.remove());
    dialog.append(area, close);
    document.body.append(dialog);
    dialog.showModal();
    area.select();
  }

  async function copy(button) {
    const { copy: source, format, what } = button.dataset;
    const text = JSON.parse(document.getElementById(source).textContent)[format];
    const label = `${what} as ${format}`;
    let done = false;
    try {
      await navigator.clipboard.writeText(text);
      done = true;
    } catch {
      done = copyOldWay(text);
    }
    button.focus();
    if (done) say(`Copied: ${label}, ${text.split("\n").length - 1} lines.`);
    else {
      say(`The browser allows no copying. Copy the ${label} from the window by hand.`);
      showByHand(text, label);
    }
  }
  for (const button of document.querySelectorAll("button[data-copy]")) button.addEventListener("click", () => copy(button));
})();
