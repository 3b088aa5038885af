// The status page: asks for what changed, and shows it. All that came from users is written as text, never as markup.
"use strict";

const ASK_EVERY_MS = 2000;
const ASK_AGAIN_MS = 5000;
const LATE_AFTER_MS = 15000;
const CLOCK_EVERY_MS = 5000;
const MOST_ROWS = 1000;
const SVG = "http://www.w3.org/2000/svg";

// Shape and colour say the same; each shape is drawn in a square of 12.
const RUNS = {
  Succeeded: ["good", "M6 1.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 1 0 0-9z"],
  Failed: ["bad", "M2.8 1.2 6 4.4 9.2 1.2l1.6 1.6L7.6 6l3.2 3.2-1.6 1.6L6 7.6l-3.2 3.2-1.6-1.6L4.4 6 1.2 2.8z"],
  TimedOut: ["bad", "M1.5 1h9v1.6L7.4 6l3.1 3.4V11h-9V9.4L4.6 6 1.5 2.6z"],
  OutOfMemory: ["bad", "M6 .8 11.5 11H.5z"],
  Evicted: ["other", "M6 .5 11.5 6 6 11.5.5 6z"],
  Lost: ["other", "M6 1.2a4.8 4.8 0 1 0 0 9.6a4.8 4.8 0 1 0 0-9.6zm0 2a2.8 2.8 0 1 1 0 5.6a2.8 2.8 0 1 1 0-5.6z"],
};
const UNKNOWN = ["other", "M1 5h10v2H1z"];
// In the order of trouble.
const STATES = {
  RetriesExhausted: ["bad", "retries exhausted", "M3.8.5h4.4l3.3 3.3v4.4l-3.3 3.3H3.8L.5 8.2V3.8z"],
  Invalid: ["bad", "invalid", "M6 .8 11.5 11H.5zM5.3 4.5v3.2h1.4V4.5zm0 4v1.3h1.4V8.5z"],
  Retrying: ["warn", "retrying", "M6 1a5 5 0 1 0 5 5H9.2A3.2 3.2 0 1 1 6 2.8v2L10 2.4 6 0z"],
  CatchingUp: ["warn", "catching up", "M1 1.5 5.5 6 1 10.5zM6 1.5 10.5 6 6 10.5z"],
  Running: ["run", "running", "M2.5 1v10l8-5z"],
  Waiting: ["calm", "waiting", "M6 1a5 5 0 1 0 0 10a5 5 0 1 0 0-10zm0 1.6a3.4 3.4 0 1 1 0 6.8a3.4 3.4 0 1 1 0-6.8z"],
  Suspended: ["calm", "suspended", "M2.5 1.5h2.5v9H2.5zM7 1.5h2.5v9H7z"],
  "": ["calm", "not seen yet", "M1 5h2v2H1zm4 0h2v2H5zm4 0h2v2H9z"],
};
const ORDER = Object.fromEntries(Object.keys(STATES).map((state, place) => [state, place]));
const WORDS = {
  Succeeded: "succeeded", Failed: "failed", TimedOut: "timed out", OutOfMemory: "out of memory",
  Evicted: "evicted", Lost: "lost",
};

const jobs = new Map();
const at = (id) => document.getElementById(id);
const table = { rows: at("rows"), count: at("count"), empty: at("empty") };
const filters = { find: at("find"), namespace: at("namespace"), sort: at("sort"), states: new Set() };
const stateButtons = new Map();
let version = "";
let answered = 0;
let aheadMs = 0; // so much the operator's clock is ahead of this machine's
let most = MOST_ROWS;
let current = null; // the job whose button is the table's one stop for the Tab key
let timer = 0;
let asking = false;

// --- Making elements ---------------------------------------------------------------------------------------

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function shape(path, kind, x = 0) {
  const made = document.createElementNS(SVG, "path");
  made.setAttribute("d", path);
  made.setAttribute("class", kind);
  if (x) made.setAttribute("transform", `translate(${x} 0)`);
  return made;
}

function drawing(width, ...children) {
  const made = document.createElementNS(SVG, "svg");
  made.setAttribute("viewBox", `0 0 ${width} 12`);
  made.setAttribute("width", width);
  made.setAttribute("height", 12);
  made.append(...children);
  return made;
}

function sign([kind, path]) {
  const made = drawing(12, shape(path, kind));
  made.setAttribute("aria-hidden", "true");
  return made;
}

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// --- Times -------------------------------------------------------------------------------------------------

const nowSeconds = () => (Date.now() + aheadMs) / 1000;

function duration(seconds) {
  if (seconds < 1) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const days = Math.floor(whole / 86400);
  const hours = Math.floor(whole / 3600) % 24;
  const minutes = Math.floor(whole / 60) % 60;
  if (days >= 10 || (days && !hours)) return `${days} d`;
  if (days) return `${days} d ${hours} h`;
  if (hours) return minutes && hours < 10 ? `${hours} h ${minutes} min` : `${hours} h`;
  if (minutes >= 10) return `${minutes} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}

const moment = (seconds) => new Date(seconds * 1000).toISOString().replace(".000", "");

function slotText(seconds) {
  return moment(seconds).replace("T", " ").replace(/:00Z$/, " UTC").replace(/Z$/, " UTC");
}

function showTime(node, seconds, before, otherwise) {
  if (seconds === null) {
    say(node, otherwise);
    node.removeAttribute("datetime");
    node.removeAttribute("title");
    return;
  }
  const ago = nowSeconds() - seconds;
  // A second or two of difference between two clocks is no future.
  const coarse = Math.abs(ago) < 60 ? Math.floor(Math.abs(ago) / 5) * 5 : Math.abs(ago);
  if (!coarse || (ago > 0 && !before)) say(node, "now");
  else say(node, ago > 0 ? `${duration(coarse)} ago` : `in ${duration(coarse)}`);
  if (node.getAttribute("datetime") !== moment(seconds)) {
    node.setAttribute("datetime", moment(seconds));
    node.title = slotText(seconds);
  }
}

function showTimes(job) {
  showTime(job.view.last, job.data.last, true, "never");
  showTime(job.view.next, job.data.next, false, "–");
}

// --- Rows --------------------------------------------------------------------------------------------------

const keyOf = (data) => `${data.namespace}/${data.name}`;

function makeView(job) {
  const view = {};
  view.button = element("button", { type: "button", class: "name", "aria-expanded": "false", tabindex: "-1" });
  view.about = element("div", { class: "about" });
  view.badge = element("span", { class: "badge" });
  view.note = element("div", { class: "note" });
  view.last = element("time");
  view.next = element("time");
  view.missed = element("td", { role: "cell", class: "number", "data-label": "Missed" });
  view.runs = element("td", { role: "cell", class: "runs", "data-label": "Last runs" });
  view.row = element(
    "tr", { role: "row" },
    element("th", { role: "rowheader", scope: "row" }, view.button, view.about),
    element("td", { role: "cell", class: "state" }, view.badge, view.note),
    element("td", { role: "cell", "data-label": "Last success" }, view.last),
    element("td", { role: "cell", "data-label": "Next run" }, view.next),
    view.missed,
    view.runs,
  );
  view.row.addEventListener("click", (event) => {
    if (document.getSelection().isCollapsed || event.target === view.button) toggle(job);
  });
  view.button.addEventListener("focus", () => makeCurrent(job));
  return view;
}

function show(job) {
  const { data, view } = job;
  job.shown = data;
  const state = STATES[data.state] || STATES[""];
  say(view.button, data.name);
  say(view.about, [data.namespace, data.schedule, data.zone].filter(Boolean).join(" · "));
  view.row.className = state[0];
  if (view.state !== data.state) {
    view.state = data.state;
    view.badge.className = `badge ${state[0]}`;
    view.badge.replaceChildren(sign([state[0], state[2]]), state[1]);
  }
  say(view.note, data.note);
  view.note.title = data.note;
  say(view.missed, data.missed === null ? "?" : String(data.missed));
  view.missed.classList.toggle("some", Boolean(data.missed));
  const runs = JSON.stringify(data.runs);
  if (view.shown !== runs) {
    view.shown = runs;
    view.runs.replaceChildren(data.runs.length ? strip(data.runs) : element("span", { class: "quiet" }, "none yet"));
  }
  showTimes(job);
}

function strip(runs) {
  const counts = new Map();
  const shapes = runs.map(([result, slot, seconds, attempt], place) => {
    const [kind, path] = RUNS[result] || UNKNOWN;
    const word = WORDS[result] || result;
    counts.set(word, (counts.get(word) || 0) + 1);
    const made = shape(path, kind, place * 15);
    const title = document.createElementNS(SVG, "title");
    title.textContent = `${slotText(slot)}: ${word}`
      + (attempt > 1 ? `, attempt ${attempt}` : "") + (seconds === null ? "" : `, ${duration(seconds)}`);
    made.append(title);
    return made;
  });
  const made = drawing(runs.length * 15 - 3, ...shapes);
  made.setAttribute("role", "img");
  const last = WORDS[runs[runs.length - 1][0]] || runs[runs.length - 1][0];
  const told = [...counts].map(([word, count]) => `${count} ${word}`).join(", ");
  made.setAttribute("aria-label", `Last ${runs.length} runs: ${told}; the newest ${last}`);
  return made;
}

// --- Details -----------------------------------------------------------------------------------------------

function toggle(job, open = !job.details) {
  if (open === Boolean(job.details)) return;
  job.view.button.setAttribute("aria-expanded", String(open));
  job.view.row.classList.toggle("open", open);
  if (!open) {
    job.details.remove();
    job.details = null;
    return;
  }
  const id = `details-${keyOf(job.data)}`;
  job.body = element("td", { role: "cell", colspan: "6" }, element("p", { class: "quiet" }, "Loading …"));
  job.details = element("tr", { role: "row", class: "details", id }, job.body);
  job.view.button.setAttribute("aria-controls", id);
  job.view.row.after(job.details);
  load(job);
}

async function load(job) {
  const { namespace, name } = job.data;
  const wanted = (job.loading = (job.loading || 0) + 1);
  let told = null;
  try {
    const answer = await fetch(`jobs/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`);
    if (answer.ok) told = await answer.json();
  } catch {
    // told below
  }
  if (!job.details || job.loading !== wanted) return;
  job.body.replaceChildren(
    ...(told ? detailParts(job.data, told) : [element("p", {}, "The operator did not answer; close and open it again.")]),
  );
}

function part(title, ...children) {
  return element("section", {}, element("h2", {}, title), ...children);
}

function detailParts(data, told) {
  const parts = [];
  if (told.error) {
    const when = told.error.time === null ? "" : ` at ${slotText(told.error.time)}`;
    const text = element("pre", { tabindex: "0", role: "region", "aria-label": `Last error of ${data.name}` });
    text.textContent = told.error.text;
    const from = [told.error.slot === null ? "" : `slot ${slotText(told.error.slot)}`, told.error.job].filter(Boolean);
    parts.push(part(`Last error${when}`, element("p", { class: "quiet" }, from.join(", Job ")), text));
  }
  if (told.ongoing) {
    const since = told.ongoing.since === null ? "" : `, since ${slotText(told.ongoing.since)}`;
    parts.push(part("Running", element("p", {}, `Slot ${slotText(told.ongoing.slot)}, attempt ${told.ongoing.attempt}${since}`)));
  }
  const conditions = told.conditions.map((one) => element("li", {}, element("b", {}, `${one.type} ${one.status}`), ` ${one.message}`));
  if (conditions.length) parts.push(part("Conditions", element("ul", {}, ...conditions)));
  if (told.history.length) parts.push(part("Last runs", element("ol", { class: "history" }, ...told.history.map(historyLine))));
  const commands = told.commands.map((one) =>
    element("li", {}, `${one.name}${one.time === null ? "" : `, ${slotText(one.time)}`}: ${one.result}`));
  if (commands.length) parts.push(part("Commands", element("ul", {}, ...commands)));
  const command = data.command ? `It runs the command ${data.command}. ` : "";
  const more = element("code", {}, `kubectl -n ${data.namespace} describe ctj ${data.name}`);
  parts.push(element("p", { class: "quiet" }, `${command}More: `, more));
  return parts;
}

function historyLine(one) {
  const seconds = one.seconds === null ? "" : `, ${duration(one.seconds)}`;
  const attempt = one.attempt > 1 ? `, attempt ${one.attempt}` : "";
  const line = element("li", {}, sign(RUNS[one.result] || UNKNOWN), ` ${slotText(one.slot)}: ${WORDS[one.result] || one.result}${attempt}${seconds}`);
  if (one.message) line.append(element("span", { class: "quiet" }, ` ${one.message}`));
  return line;
}

// --- Filters and order -------------------------------------------------------------------------------------

function matches(data, but = "") {
  const text = filters.find.value.trim().toLowerCase();
  if (filters.namespace.value && data.namespace !== filters.namespace.value) return false;
  if (text && !`${data.namespace}/${data.name} ${data.command}`.toLowerCase().includes(text)) return false;
  return but === "state" || !filters.states.size || filters.states.has(data.state);
}

const inOrder = (a, b) => (a < b ? -1 : Number(a > b));
const byName = (a, b) => inOrder(a.namespace, b.namespace) || inOrder(a.name, b.name);
const ORDERS = {
  name: byName,
  trouble: (a, b) => (ORDER[a.state] ?? 99) - (ORDER[b.state] ?? 99) || b.errors - a.errors || byName(a, b),
  next: (a, b) => (a.next ?? Infinity) - (b.next ?? Infinity) || byName(a, b),
  last: (a, b) => (a.last ?? 0) - (b.last ?? 0) || byName(a, b),
  missed: (a, b) => (b.missed ?? 0) - (a.missed ?? 0) || byName(a, b),
};

// Infinity - Infinity is no number, and no order.
const compare = (a, b) => ORDERS[filters.sort.value](a, b) || byName(a, b);

function arrange() {
  const all = [...jobs.values()];
  const found = all.filter((job) => matches(job.data)).sort((a, b) => compare(a.data, b.data));
  const shown = found.slice(0, most);
  let place = table.rows.firstChild;
  const put = (node) => {
    if (place === node) place = node.nextSibling;
    else table.rows.insertBefore(node, place);
  };
  for (const job of shown) {
    if (!job.view) job.view = makeView(job);
    if (job.shown !== job.data) show(job);
    put(job.view.row);
    if (job.details) put(job.details);
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
  if (!current || !current.view.row.isConnected) makeCurrent(shown[0] || null);
  showCounts(all, found.length, shown.length);
}

function makeCurrent(job) {
  if (current && current.view) current.view.button.tabIndex = -1;
  current = job;
  if (job) job.view.button.tabIndex = 0;
}

function showCounts(all, found, shown) {
  const jobsText = (count) => `${count} job${count === 1 ? "" : "s"}`;
  say(table.count, found === all.length ? jobsText(all.length) : `${found} of ${jobsText(all.length)}`);
  const trouble = all.filter((job) => job.data.state in STATES && ORDER[job.data.state] <= ORDER.Retrying).length;
  document.title = trouble ? `(${trouble}) Crontabber` : "Crontabber";
  const more = found - shown;
  table.empty.hidden = !(found === 0 || more);
  if (more) {
    const button = element("button", { type: "button" }, `Show ${Math.min(more, MOST_ROWS)} more`);
    button.addEventListener("click", () => { most += MOST_ROWS; arrange(); });
    table.empty.replaceChildren(button);
  } else if (!found) {
    say(table.empty, all.length ? "No job matches the filters." : version ? "There are no CrontabberJobs." : "");
  }
  const counts = new Map();
  for (const { data } of all) if (matches(data, "state")) counts.set(data.state, (counts.get(data.state) || 0) + 1);
  for (const [state, button] of stateButtons) {
    const count = counts.get(state) || 0;
    button.hidden = !count && !filters.states.has(state);
    say(button.lastChild, `${STATES[state][1]} ${count}`);
  }
}

function showNamespaces() {
  const names = [...new Set([...jobs.values()].map((job) => job.data.namespace))].sort();
  const wanted = filters.namespace.value || filters.wantedNamespace || "";
  if (names.join(" ") === filters.names) return;
  filters.names = names.join(" ");
  // One that is asked for stays, also while it has no jobs.
  if (wanted && !names.includes(wanted)) names.push(wanted);
  filters.namespace.replaceChildren(element("option", { value: "" }, "all"), ...names.map((name) => element("option", { value: name }, name)));
  filters.namespace.value = wanted;
}

// The filters are in the address, so that it can be sent to somebody.
function remember() {
  const words = new URLSearchParams();
  if (filters.find.value) words.set("find", filters.find.value);
  if (filters.namespace.value) words.set("namespace", filters.namespace.value);
  if (filters.states.size) words.set("state", [...filters.states].join(","));
  if (filters.sort.value !== "trouble") words.set("sort", filters.sort.value);
  history.replaceState(null, "", words.size ? `#${words}` : location.pathname + location.search);
}

function recall() {
  const words = new URLSearchParams(location.hash.slice(1));
  filters.find.value = words.get("find") || "";
  filters.wantedNamespace = words.get("namespace") || "";
  filters.names = undefined;
  filters.namespace.value = "";
  filters.sort.value = words.get("sort") in ORDERS ? words.get("sort") : "trouble";
  filters.states = new Set((words.get("state") || "").split(",").filter((state) => state in STATES && words.has("state") && state));
  for (const [state, button] of stateButtons) button.setAttribute("aria-pressed", String(filters.states.has(state)));
  showNamespaces();
}

function changed() {
  filters.wantedNamespace = "";
  most = MOST_ROWS;
  remember();
  arrange();
}

// --- Asking ------------------------------------------------------------------------------------------------

async function ask() {
  if (asking || document.hidden) return;
  asking = true;
  clearTimeout(timer);
  let again = ASK_EVERY_MS;
  try {
    const answer = await fetch(`jobs?since=${encodeURIComponent(version)}`, { signal: AbortSignal.timeout(LATE_AFTER_MS) });
    if (!answer.ok) throw new Error(String(answer.status));
    const told = await answer.json();
    const date = Date.parse(answer.headers.get("Date"));
    if (!Number.isNaN(date) && Math.abs(date - Date.now()) > 2000) aheadMs = date - Date.now();
    take(told);
    answered = Date.now();
  } catch {
    again = ASK_AGAIN_MS;
  }
  asking = false;
  showConnection();
  timer = setTimeout(ask, again);
}

function take(told) {
  if (told.whole) {
    const kept = new Set(told.jobs.map(keyOf));
    for (const key of [...jobs.keys()]) if (!kept.has(key)) drop(key);
  }
  for (const [namespace, name] of told.deleted) drop(`${namespace}/${name}`);
  for (const data of told.jobs) {
    const key = keyOf(data);
    const job = jobs.get(key) || { view: null, details: null };
    job.data = data;
    jobs.set(key, job);
    if (job.details) load(job);
  }
  const isNews = told.version !== version;
  version = told.version;
  if (!isNews) return;
  showNamespaces();
  arrange();
}

function drop(key) {
  const job = jobs.get(key);
  if (!job) return;
  jobs.delete(key);
  if (job.view && job.view.row.contains(document.activeElement)) at("jobs").focus();
  if (current === job) current = null;
  if (job.details) toggle(job, false);
  if (job.view) job.view.row.remove();
}

function showConnection() {
  const late = answered && Date.now() - answered > LATE_AFTER_MS / 2;
  document.body.classList.toggle("late", Boolean(late) || !answered);
  const since = answered ? new Date(answered).toTimeString().slice(0, 8) : "";
  say(at("connection-text"), !answered ? "The operator does not answer" : late ? `No answer since ${since}; this is what was known then` : "Live");
}

// --- Keys --------------------------------------------------------------------------------------------------

function move(event) {
  const buttons = [...table.rows.querySelectorAll("button.name")];
  const here = buttons.indexOf(document.activeElement);
  if (here < 0) return;
  const to = {
    ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: buttons.length - 1, PageDown: here + 10, PageUp: here - 10,
  }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  buttons[Math.max(0, Math.min(to, buttons.length - 1))].focus();
}

function start() {
  for (const [state, [kind, words, path]] of Object.entries(STATES)) {
    const button = element("button", { type: "button", "aria-pressed": "false", class: kind }, sign([kind, path]), element("span", {}, words));
    button.hidden = true;
    button.addEventListener("click", () => {
      if (!filters.states.delete(state)) filters.states.add(state);
      button.setAttribute("aria-pressed", String(filters.states.has(state)));
      changed();
    });
    stateButtons.set(state, button);
    at("states").append(button);
  }
  for (const [result, drawn] of Object.entries(RUNS)) at("legend").append(element("li", {}, sign(drawn), ` ${WORDS[result]}`));
  at("legend").append(element("li", {}, "The newest run is at the right."));
  at("filters").addEventListener("submit", (event) => event.preventDefault());
  filters.find.addEventListener("input", changed);
  filters.namespace.addEventListener("change", changed);
  filters.sort.addEventListener("change", changed);
  table.rows.addEventListener("keydown", move);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) {
      event.preventDefault();
      filters.find.focus();
    }
    if (event.key === "Escape" && current && current.details) {
      toggle(current, false);
      current.view.button.focus();
    }
  });
  addEventListener("hashchange", () => { recall(); arrange(); });
  document.addEventListener("visibilitychange", ask);
  setInterval(() => {
    for (const job of jobs.values()) if (job.view && job.view.row.isConnected) showTimes(job);
    showConnection();
  }, CLOCK_EVERY_MS);
  recall();
  ask();
}

start();
