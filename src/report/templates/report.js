"use strict";
// The user's page. The rule is that of the game at one anchor (src/game/rule.py):
// an interaction is disclosed if  expected - price * unwillingness > critical,  unless the user forbade it.
const data = JSON.parse(document.getElementById("data").textContent);
const STEP = {"<f8": 8, "<f4": 4, "<u4": 4, "<u1": 1};
const READ = {"<f8": "getFloat64", "<f4": "getFloat32", "<u4": "getUint32", "<u1": "getUint8"};

function unpack(text, kind) {
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Array.from({length: bytes.length / STEP[kind]}, (_, k) => view[READ[kind]](k * STEP[kind], true));
}

function columns(user) {
  const b = unpack(user.unwillingness, "<f8");
  return {
    items: unpack(user.items, "<u4"), b, decided: unpack(user.disclosed, "<u1").map(Boolean),
    expected: data.played ? unpack(user.expected, "<f8") : null,
    influence: data.played ? unpack(user.influence, "<f4") : null,
    vetoed: b.map(value => data.veto && value === 1),
  };
}

function selection(c, price) {
  return c.b.map((b, k) => c.expected[k] - price * b > data.critical && !c.vetoed[k]);
}

function times(x) {
  if (x >= 1000 || x < 0.01) return x > 1 ? "over 1000x" : "less than 0.01x";
  return `${x.toFixed(x >= 10 ? 0 : x >= 2 ? 1 : 2)}x`;
}

function reason(expected, price, vetoed, disclosed, says) {
  if (vetoed) return "withheld: they forbade it";
  if (disclosed !== says) return `${disclosed ? "disclosed" : "withheld"}: ${data.otherwise}`;
  if (disclosed && price > 0 && expected >= price) return `disclosed: worth ${times(expected / price)} its price`;
  if (disclosed && expected > price) return "disclosed: helps their recommendations and costs them nothing";
  if (disclosed) return "disclosed: makes too little difference to move the game from its start";
  if (expected <= 0) return "withheld: hurts their recommendations";
  if (expected >= price) return "withheld: makes too little difference to move the game from its start";
  return `withheld: they asked, and it is worth only ${times(expected / price)} its price`;
}

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  Object.assign(made, attributes);
  return made;
}

const find = id => document.getElementById(id);
const percent = x => `${(100 * x).toFixed(0)}%`;
const signed = x => (x < 0 ? "\u2212" : "+") + Math.abs(x).toFixed(4);
let shown = null;  // the user on the page, with the columns

function show(user) {
  shown = {user, ...columns(user)};
  find("user").value = user.id;
  find("said").textContent = "";
  showLists();
  asDecided();
}

function showLists() {
  const place = find("lists");
  place.replaceChildren();
  const models = Object.keys(shown.user.lists), only = models.length > 1 ? "* only in this list." : "";
  for (const model of models) {
    const others = new Set(models.filter(m => m !== model).flatMap(m => shown.user.lists[m].map(([item]) => item)));
    const list = element("ol");
    for (const [item, score] of shown.user.lists[model]) {
      const line = element("li", data.items[item][1] + (models.length > 1 && !others.has(item) ? " *" : ""));
      line.append(" ", element("small", score.toFixed(3), {className: "quiet"}));
      line.lastChild.style.display = "inline";
      list.append(line);
    }
    const box = element("div");
    box.append(element("h3", model === "IFRQE" ? "Recommended after, from what is disclosed"
      : "Recommended before, from everything"), list);
    place.append(box);
  }
  const ranks = Object.values(shown.user.ranks);  // of the plain model, then of the masked one; none where nothing is held out
  const next = shown.user.next === null ? "" : `: ${data.items[shown.user.next][1]}`;  // it may be vetoed
  place.append(element("p", !ranks.length ? only : `What they chose next${next}, rank ${ranks.join(" before, ")}`
    + `${ranks.length > 1 ? " after" : ""} among ${data.num_candidates}.${only && ` ${only}`}`));
}

// The list of the refitted selection nearest in number; the last is that of everything that is not forbidden or withdrawn.
function showLive(number) {
  const place = find("live"), lists = data.played && shown.user.live;
  place.hidden = !lists;
  if (!lists) return;
  const most = selection(shown, 0).filter(Boolean).length, last = lists.length - 2;
  const items = lists[most ? Math.min(last, Math.round(last * number / most)) : 0], all = new Set(lists[last + 1]);
  const list = find("follows");
  list.replaceChildren(...items.map(item => element("li", data.items[item][1] + (all.has(item) ? "" : " (new)"))));
  items.forEach((item, k) => { list.children[k].dataset.item = data.items[item][0]; });
  find("fresh").textContent = `${items.filter(item => !all.has(item)).length} of ${items.length} are new against the list `
    + "with everything allowed.";
}

function asDecided() {
  if (data.prices) find("budget").value = Math.round(100 * data.share);
  draw(shown.decided, data.weight, data.share, "It was decided: ");
}

function atBudget() {
  const step = Number(find("budget").value);
  draw(selection(shown, data.prices[step]), data.prices[step], step / 100, "By the rule of the game: ");
}

function draw(chosen, price, share, words) {
  const c = shown, number = chosen.filter(Boolean).length;
  const total = c.b.reduce((sum, b, k) => sum + (c.vetoed[k] ? 0 : b), 0);  // what they forbade is in no budget
  const violated = c.b.reduce((sum, b, k) => sum + (chosen[k] ? b : 0), 0);
  if (data.prices) find("share").textContent = percent(share);
  find("sum").textContent = `${words}${number} of their ${chosen.length} interactions are disclosed`
    + (total > 0 ? `, with ${percent(violated / total)} of their own unwillingness` : "")
    + (price === null ? "." : `. Price of unwillingness: ${price.toPrecision(3)}.`)
    + (data.agreement !== null && data.agreement < 1
      ? ` The rule stands for a game at several anchors, or in instalments; it decides ${(100 * data.agreement).toFixed(1)}% of all interactions alike.` : "");
  showLive(number);
  const says = data.played ? selection(c, price) : null;
  const worth = k => data.played ? c.expected[k] - price * c.b[k] : chosen[k] - c.b[k];
  const order = Array.from(chosen.keys()).sort((i, j) => worth(j) - worth(i) || i - j);
  const place = {true: element("div", undefined, {className: "entries"}), false: element("div", undefined, {className: "entries"})};
  for (const k of order) {
    const [id, title, genres] = data.items[c.items[k]];
    const why = c.user.alone && !c.vetoed[k] ? `${chosen[k] ? "disclosed" : "withheld"}: ${data.unknown}`
      : data.played ? reason(c.expected[k], price * c.b[k], c.vetoed[k], chosen[k], says[k])
      : c.vetoed[k] ? "withheld: they forbade it" : data.sentences[chosen[k] ? 0 : 1];
    const entry = element("div", undefined, {className: `entry ${chosen[k] ? "used" : "unused"}`});
    entry.dataset.item = id;
    entry.append(element("p", title), element("small", genres.replaceAll("|", ", ")), element("p", why, {className: "why"}),
      element("small", `unwilling ${c.b[k].toFixed(2)}` + (data.played && !c.vetoed[k] && !c.user.alone
        ? `, influence ${signed(c.influence[k])}, expected ${signed(c.expected[k])}` : "")));
    place[chosen[k]].append(entry);
  }
  find("interactions").replaceChildren(
    element("h3", `Disclosed: ${number}, most worth while first`), place[true],
    element("h3", `Withheld: ${chosen.length - number}`), place[false]);
}

function showAndName(user) {
  show(user);
  history.replaceState(null, "", `#user=${encodeURIComponent(user.id)}`);  // an address to pass on
}

function pick(id) {
  const user = data.users.find(u => u.id === id.trim());
  if (user) showAndName(user);
  else find("said").textContent = `User ${id} is not among the ${data.users.length} in this file; `
    + `python eval.py --explain_user ${id} shows them, if there is such a user.`;
}

find("users").append(...data.users.map(u => element("option", undefined, {value: u.id})));
find("slide").hidden = !data.prices;
find("pick").addEventListener("submit", event => { event.preventDefault(); pick(find("user").value); });
find("random").addEventListener("click", () => showAndName(data.users[Math.floor(Math.random() * data.users.length)]));
find("budget").addEventListener("input", atBudget);
find("decided").addEventListener("click", asDecided);
const asked = location.hash.match(/^#user=(.*)$/);
show(data.users[0]);
if (asked) {
  let id = asked[1];
  try { id = decodeURIComponent(id); } catch { /* not an address of ours: taken as it stands */ }
  pick(id);
  find("person").scrollIntoView();
}
