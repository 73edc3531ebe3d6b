// What pages do more with a script: they keep themselves new, copy, and show times of the reader's own zone. Without it
// every page works by links and forms.
"use strict";

const readable = (time) => {
  const at = new Date(time.dateTime);
  if (!Number.isNaN(at.getTime())) time.title = at.toLocaleString();
};

const prepare = (root) => {
  root.querySelectorAll("time[datetime]").forEach(readable);
  for (const button of root.querySelectorAll("button[data-copy]")) {
    button.hidden = !navigator.clipboard;
  }
  for (const box of root.querySelectorAll("input[data-all]")) {
    box.hidden = false;
  }
  reachable();
};

// What is too wide for a narrow screen can be moved with the arrow keys.
const reachable = () => {
  for (const box of document.querySelectorAll(".scroll")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else if (!box.hasAttribute("role")) box.removeAttribute("tabindex");
  }
};

// A part that somebody is working in is left alone until they are done.
const busy = (part) => {
  const active = document.activeElement;
  const typing = part.contains(active) && /^(INPUT|SELECT|TEXTAREA)$/.test(active.tagName);
  return typing || part.querySelector(":active, input:checked[name=id], details[data-keep][open]") || !getSelection().isCollapsed;
};

const watch = (part) => {
  const at = location.pathname + location.search;
  const source = new EventSource("/admin/live?at=" + encodeURIComponent(at));
  let waiting = null;
  const show = () => {
    if (waiting === null || busy(part)) return;
    const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
    const open = [...part.querySelectorAll("details[id][open]")].map((one) => one.id);
    part.innerHTML = waiting;
    waiting = null;
    open.forEach((id) => document.getElementById(id)?.setAttribute("open", ""));
    if (focused) document.getElementById(focused)?.focus();
    prepare(part);
  };
  source.addEventListener("live", (event) => { waiting = event.data; show(); });
  setInterval(show, 1000);
  addEventListener("pagehide", () => source.close());
};

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  const before = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 1500);
});

// The browser does so too, but not where another script listens to addresses.
document.querySelector("a.skip")?.addEventListener("click", () => { document.getElementById("main").focus(); });

document.addEventListener("change", (event) => {
  const box = event.target.closest("input[data-all]");
  if (!box) return;
  for (const one of box.closest("table").querySelectorAll("input[type=checkbox][name]")) one.checked = box.checked;
});

// A form is sent once, however often somebody clicks.
document.addEventListener("submit", (event) => {
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "1";
  setTimeout(() => { delete event.target.dataset.sent; }, 5000);
});

document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    document.getElementById("find")?.focus();
  }
});

prepare(document);
addEventListener("resize", reachable);
document.addEventListener("toggle", reachable, true);
const live = document.querySelector("[data-live]");
if (live && "EventSource" in window) watch(live);
