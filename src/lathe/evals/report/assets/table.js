// The list of tasks or trials: sorted, filtered, and the way from it to a trial and back.

const state = { view: 'tasks', words: '', outcome: '', category: '', flagged: false, sort: { tasks: ['task', 1], trials: ['task', 1] } };
const pageOf = (id) => `#/trial/${encodeURIComponent(id)}`;

const COLUMNS = {
  tasks: [
    ['task', 'Task', (row) => row.task, (row) => row.trials.length === 1 ? el('a', { href: pageOf(row.trials[0].id) }, row.task) : row.task, 'name'],
    ['category', 'Category', (row) => row.category, null, 'wide'],
    ['attempts', 'Attempts', (row) => row.trials.length, (row) => el('span.chips', null, ...row.trials.map(chip)), ''],
    ['mean', 'Mean reward', (row) => row.mean ?? -1, (row) => row.mean === null ? '-' : `${number(row.mean * 100, 1)} %`, 'num'],
    ['time', 'Time, mean', (row) => mean(row.trials, (one) => one.times.total), (row) => duration(mean(row.trials, (one) => one.times.total)), 'num wide'],
    ['tokens', 'Tokens', (row) => sum(row.trials, tokensOf), (row) => amount(sum(row.trials, tokensOf)), 'num wide'],
    ['cost', 'Cost', (row) => costOf(row.trials) ?? -1, (row) => money(costOf(row.trials)), 'num wide'],
    ['flags', 'Flags', (row) => sum(row.trials, (one) => (one.flags || []).length), (row) => flagsOf(row.trials), ''],
  ],
  trials: [
    ['task', 'Trial', (row) => [row.task, row.attempt], (row) => el('a', { href: pageOf(row.id) }, `${row.task} #${row.attempt}`), 'name'],
    ['category', 'Category', (row) => row.category || '', null, 'wide'],
    ['reward', 'Reward', (row) => row.reward ?? -1, chip, ''],
    ['flags', 'Flags', (row) => (row.flags || []).length, (row) => flagsOf([row]), ''],
    ['ended', 'Ended', (row) => row.ended || (row.faults || []).slice(-1).map((one) => one.stage).join() || '', null, 'wide'],
    ['steps', 'Steps', (row) => row.steps || 0, null, 'num wide'],
    ['time', 'Time', (row) => row.times.total, (row) => duration(row.times.total), 'num'],
    ['model', 'Model', (row) => row.times.model, (row) => duration(row.times.model), 'num wide'],
    ['tool', 'Tools', (row) => row.times.tool, (row) => duration(row.times.tool), 'num wide'],
    ['tokens', 'Tokens', tokensOf, (row) => amount(tokensOf(row)), 'num wide'],
    ['cost', 'Cost', (row) => row.cost.usd ?? -1, (row) => money(row.cost.usd), 'num wide'],
    ['served', 'Served by', (row) => (row.served || []).map((one) => one.model).join(', '), (row) => servedBy(row), 'wide loose'],
  ],
};

function tokensOf(trial) { return (trial.cost.input_tokens || 0) + (trial.cost.output_tokens || 0); }
function sum(rows, value) { return rows.reduce((total, row) => total + value(row), 0); }
function mean(rows, value) { return rows.length ? sum(rows, value) / rows.length : 0; }
function costOf(trials) {
  const known = trials.filter((one) => one.cost.usd !== null && one.cost.usd !== undefined);
  return known.length ? sum(known, (one) => one.cost.usd) : null;
}
function servedBy(trial) {
  const served = trial.served || [], swapped = served.some((one) => one.substitution);
  return el(swapped ? 'span.flag' : 'span', null, served.map((one) => one.model).join(', ') + (swapped ? ' (substituted)' : ''));
}
function flagsOf(trials) {
  const kinds = [...new Set(trials.flatMap((one) => (one.flags || []).map((flag) => flag.kind)))];
  return kinds.length ? el('span.flag', { title: kinds.join(', ') }, '⚑', el('span.wide', null, ` ${kinds.join(', ')}`)) : '';
}
function chip(trial) {
  const kind = outcome(trial), swapped = (trial.served || []).some((one) => one.substitution);
  const said = `${trial.task}, attempt ${trial.attempt}: ${kind}${(trial.flags || []).length ? ', flagged' : ''}${swapped ? ', another model served' : ''}`;
  return el(`a.chip.${kind}${(trial.flags || []).length || swapped ? '.flagged' : ''}`, { href: pageOf(trial.id), title: said, 'aria-label': said }, sign(trial));
}

function compare(a, b) {
  if (Array.isArray(a)) return compare(a[0], b[0]) || compare(a[1], b[1]);
  return typeof a === 'number' ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
}
function wanted(trial) {
  if (state.outcome && outcome(trial) !== state.outcome) return false;
  if (state.flagged && !(trial.flags || []).length) return false;
  if (state.category && (trial.category || '') !== state.category) return false;
  const text = [trial.task, trial.category, trial.ended, trial.model, ...(trial.served || []).map((one) => one.model),
    ...(trial.flags || []).map((flag) => flag.kind), ...(trial.faults || []).map((fault) => `${fault.stage} ${fault.why}`)].join(' ').toLowerCase();
  return state.words.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

// The first word of a title is all there is room for on a narrow screen.
const headed = (title) => title.split(/(?= )/).map((word, at) => (at ? el('span.wide', null, word) : word));

function list(run) {
  const body = el('tbody'), head = el('tr'), count = el('span.count', { role: 'status' });
  const rowsOf = () => {
    const kept = run.trials.filter(wanted);
    if (state.view === 'trials') return kept;
    const left = new Map();
    for (const trial of kept) { if (!left.has(trial.task)) left.set(trial.task, []); left.get(trial.task).push(trial); }
    const free = !state.words && !state.outcome && !state.category && !state.flagged;
    return run.tasks.filter((task) => left.has(task.task) || (free && !task.trials.length)).map((task) => ({ ...task, trials: left.get(task.task) || [] }));
  };
  function show() {
    const columns = COLUMNS[state.view].filter(([key]) => run.has(key));
    const [key, way] = state.sort[state.view];
    const value = (columns.find(([name]) => name === key) || columns[0])[2];
    const rows = rowsOf();
    rows.sort((a, b) => way * compare(value(a), value(b)) || compare(a.task, b.task));
    run.order = rows.flatMap((row) => row.trials || [row]).map((trial) => trial.id);
    head.replaceChildren(...columns.map(([name, title, , , kind]) => el(`th${kind ? `.${kind.split(' ').join('.')}` : ''}`, { scope: 'col', 'aria-sort': name === key ? (way > 0 ? 'ascending' : 'descending') : null },
      el('button', { type: 'button', onclick: () => { state.sort[state.view] = [name, name === key ? -way : ['task', 'category', 'ended', 'served'].includes(name) ? 1 : -1]; show(); } }, ...headed(title)))));
    body.replaceChildren(...rows.map((row) => el('tr', null, ...columns.map(([, , plain, draw, kind]) => el(`td${kind ? `.${kind.split(' ').join('.')}` : ''}`, null, draw ? draw(row) : String(plain(row)))))));
    if (!rows.length) body.append(el('tr', null, el('td.empty', { colspan: columns.length }, 'Nothing is left of it with these filters.')));
    const trials = rows.reduce((total, row) => total + (row.trials ? row.trials.length : 1), 0);
    count.textContent = state.view === 'tasks' ? `${rows.length} of ${run.tasks.length} tasks, ${trials} trials` : `${trials} of ${run.trials.length} trials`;
  }
  const option = (value, text) => el('option', { value }, text);
  const choice = (label, key, options) => el('select', { 'aria-label': label, onchange: (event) => { state[key] = event.target.value; show(); } }, ...options);
  const categories = [...new Set(run.trials.map((trial) => trial.category || ''))].filter(Boolean).sort();
  const views = ['tasks', 'trials'].map((view) => el('button', { type: 'button', 'aria-pressed': String(view === state.view), onclick: () => {
    state.view = view;
    for (const button of views) button.setAttribute('aria-pressed', String(button.textContent.toLowerCase() === view));
    show();
  } }, view === 'tasks' ? 'Tasks' : 'Trials'));
  document.getElementById('list').replaceChildren(
    el('div.bar', null, el('div.switch', { role: 'group', 'aria-label': 'Show' }, ...views),
      el('span.grow', null, el('input', { type: 'search', placeholder: 'Filter by words', 'aria-label': 'Filter by words', oninput: (event) => { state.words = event.target.value; show(); } })),
      choice('Outcome', 'outcome', [option('', 'Every outcome'), ...['passed', 'partial', 'failed', 'fault'].filter((kind) => run.trials.some((trial) => outcome(trial) === kind)).map((kind) => option(kind, kind))]),
      categories.length > 1 && choice('Category', 'category', [option('', 'Every category'), ...categories.map((name) => option(name, name))]),
      run.has('flags') && el('label', null, el('input', { type: 'checkbox', onchange: (event) => { state.flagged = event.target.checked; show(); } }), 'Flagged'), count),
    el('div.rows', null, el('table', null, el('thead', null, head), body)));
  show();
}

async function route(run) {
  const found = /^#\/trial\/(.+)$/.exec(location.hash);
  let id = null;
  try { id = found && decodeURIComponent(found[1]); } catch { id = null; }
  const at = run.trials.findIndex((trial) => trial.id === id);
  const [all, one] = [document.getElementById('run'), document.getElementById('trial')];
  if (at < 0) {
    one.hidden = true; all.hidden = false; one.replaceChildren(); delete one.dataset.trial;
    window.scrollTo(0, run.scrolled || 0);
    return;
  }
  if (!all.hidden) run.scrolled = window.scrollY;
  const place = run.order.indexOf(id);
  const near = (step) => (place >= 0 && run.order[place + step] ? pageOf(run.order[place + step]) : null);
  let parts;
  try { parts = trialPage(run.trials[at], await unpacked(`trial-${at}`), { before: near(-1), after: near(1) }); }
  catch (error) { parts = [el('p.why.bad', null, `This trial cannot be shown: ${error.message}`)]; }
  if (!location.hash.endsWith(found[1])) return;
  one.replaceChildren(...parts);
  one.dataset.trial = id;
  all.hidden = true; one.hidden = false;
  window.scrollTo(0, 0);
  one.querySelector('h2')?.focus({ preventScroll: true });
}

async function start() {
  const run = await unpacked('index');
  for (const trial of run.trials) { trial.times ??= { total: 0, model: 0, tool: 0 }; trial.cost ??= {}; }
  const byId = new Map(run.trials.map((trial) => [trial.id, trial]));
  run.tasks = run.tasks.map(([task, category, average, trials]) => ({ task, category, mean: average, trials: trials.map((id) => byId.get(id)) }));
  const needed = {
    category: (trial) => trial.category, flags: (trial) => (trial.flags || []).length, served: (trial) => (trial.served || []).length,
    cost: (trial) => trial.cost.usd !== null && trial.cost.usd !== undefined, tokens: tokensOf, steps: (trial) => trial.steps,
    model: (trial) => trial.times.model, tool: (trial) => trial.times.tool,
  };
  run.has = (key) => !needed[key] || run.trials.some(needed[key]);
  list(run);
  addEventListener('hashchange', () => route(run));
  addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && location.hash.startsWith('#/trial/')) location.hash = '#/';
  });
  await route(run);
  document.documentElement.dataset.ready = 'yes';
}
start().catch((error) => document.getElementById('list').replaceChildren(el('p.note', null, `This browser cannot unpack the trials (${error.message}); report.md and report.json need no browser.`)));
