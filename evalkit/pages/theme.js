"use strict";
// Light and dark follow the system until the button says otherwise; the choice is kept where the browser lets a page.
(() => {
  const button = document.getElementById("theme-toggle");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const label = () => {
    button.textContent = isDark() ? "Light mode" : "Dark mode";
  };
  const storage = (action) => {
    try {
      return action(localStorage);
    } catch {
      return null; // pages from the disk may have none
    }
  };
  const kept = storage((store) => store.getItem("evalkit-theme"));
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  label();
  button.hidden = false;
  system.addEventListener("change", label);
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    storage((store) => store.setItem("evalkit-theme", root.dataset.theme));
    label();
  });
})();
