// Shows one list. The server sends the whole list after each change, whoever made
// it, so this page keeps nothing: it draws what it is sent.
//
// Text of users goes into the page by `textContent` only, never as HTML.

const $ = (selector, root = document) => root.querySelector(selector);
const here = location.pathname; // "/lists/NAME"
const rows = new Map(); // id of an item -> its <li>, drawn before

// ---- what the server tells us

function connect(pause = 250) {
  const socket = new WebSocket(`${location.origin.replace("http", "ws")}${here}/live`);
  socket.onopen = () => {
    pause = 250;
    connection("live");
    // What ended while nobody told us must not be shown as running for ever.
    document.querySelectorAll("#notices .running").forEach((article) => article.remove());
  };
  socket.onmessage = (event) => receive(JSON.parse(event.data));
  socket.onclose = () => {
    connection("reconnecting");
    setTimeout(connect, pause, Math.min(pause * 2, 5000));
  };
}

function receive(message) {
  if (message.items) draw(message.items, message.life);
  if (message.import) imported(message.import);
  if (message.reminder) notice("reminder", "Due today:", message.reminder);
}

function connection(state) {
  $("#connection").textContent = state;
  $("#connection").dataset.state = state;
}

// ---- drawing

function draw(items, life) {
  const focused = document.activeElement; // moving a row would take the focus off it
  $("#items").replaceChildren(...items.map(row));
  focused?.focus({ preventScroll: true });
  const ids = new Set(items.map((item) => item.id));
  for (const id of rows.keys()) if (!ids.has(id)) rows.delete(id);
  $("#nothing").hidden = items.length > 0;
  $("#count").textContent = count(items);
  $("#life").textContent = life;
}

function row(item) {
  const li = rows.get(item.id) ?? newRow(item.id);
  li.classList.toggle("done", item.done);
  li.classList.toggle("late", !item.done && item.date !== null && item.date < today());
  $("input", li).checked = item.done;
  $(".title", li).textContent = item.title;
  $("time", li).textContent = item.date ?? "";
  return li;
}

function newRow(id) {
  const li = $("#row").content.cloneNode(true).firstElementChild;
  const url = `${here}/items/${id}`;
  $("input", li).onchange = async ({ target: box }) => {
    const saved = await send("PATCH", url, { done: box.checked });
    if (!saved) box.checked = !box.checked;
  };
  $("button", li).onclick = () => send("DELETE", url);
  rows.set(id, li);
  return li;
}

function count(items) {
  const open = items.filter((item) => !item.done).length;
  return items.length ? `${open} to do, ${items.length - open} done` : "";
}

function today() {
  return new Date().toLocaleDateString("sv"); // the Swedish write dates as ISO does
}

function imported({ id, state, source, imported, bad = [], reason }) {
  const lines = bad.map(({ line, reason }) => `line ${line}: ${reason}`);
  const but = lines.length ? `, but ${lines.length} could not be read:` : ".";
  const text = {
    running: `Importing ${source} …`,
    failed: `Could not import ${source}: ${reason}.`,
    done: `Imported ${imported} of ${imported + lines.length} items from ${source}${but}`,
  };
  document.getElementById(id)?.remove(); // what was said about this import before
  notice(lines.length ? "partly" : state, text[state], lines).id = id;
}

function notice(kind, text, lines = []) {
  const article = $("#notice").content.cloneNode(true).firstElementChild;
  article.className = kind;
  $("p", article).textContent = text;
  $("ul", article).replaceChildren(...lines.map((line) => {
    const li = document.createElement("li");
    li.textContent = line;
    return li;
  }));
  $("button", article).onclick = () => article.remove();
  $("#notices").prepend(article);
  return article;
}

// ---- what the user does

async function send(method, url, body) {
  const form = body instanceof FormData;
  const headers = body && !form ? { "Content-Type": "application/json" } : {};
  try {
    const response = await fetch(url, { method, headers, body: form ? body : JSON.stringify(body) });
    if (response.ok) return true;
    notice("failed", (await response.text()) || `The server said ${response.status}.`);
  } catch {
    notice("failed", "The server cannot be reached.");
  }
  return false;
}

// Empties the form at once and not after the answer: by then the next thing may
// have been typed. What was refused comes back.
function onSubmit(selector, act) {
  $(selector).onsubmit = async (event) => {
    event.preventDefault();
    const form = event.target;
    const data = new FormData(form);
    form.reset();
    if (!(await act(data))) restore(form, data);
  };
}

function restore(form, data) {
  for (const [name, value] of data) {
    const input = form.elements[name];
    if (input.type !== "file" && !input.value) input.value = value;
  }
}

onSubmit("#add", (data) => send("POST", `${here}/items`, Object.fromEntries(data)));
onSubmit("#import-file", (data) => send("POST", `${here}/import`, data));
onSubmit("#import-url", (data) => send("POST", `${here}/import`, data));
onSubmit("#open", (data) => {
  const name = data.get("list").toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "");
  if (name) location.href = `/lists/${name}`;
  return Boolean(name);
});
$("#kill").onclick = () => send("POST", `${here}/kill`);

// ---- start

$("#name").textContent = document.title = here.split("/").pop();
connect();
const names = await (await fetch("/lists")).json();
$("#names").replaceChildren(...names.map((name) => new Option(name, name)));
