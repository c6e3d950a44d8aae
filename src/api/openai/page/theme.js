// Before anything is drawn: light or dark.
(() => {
  const kept = localStorage.getItem("penstock.theme");
  const theme = kept === "light" || kept === "dark" ? kept : matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  document.documentElement.dataset.theme = theme;
})();
