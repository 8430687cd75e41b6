// Light or dark, before anything is painted. app.js has the switch.
"use strict";
try {
  const chosen = localStorage.getItem("junebug.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // no storage: as the system has it
}
