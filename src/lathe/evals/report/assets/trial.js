// One trial: what was asked, each step, what changed, the terminal, and what the verifier said.

const LONG = 14;

function outcome(trial) {
  if (trial.verdict === 'fault' || trial.reward === null || trial.reward === undefined) return 'fault';
  return trial.passed ? 'passed' : trial.reward > 0 ? 'partial' : 'failed';
}
const SIGNS = { passed: '✓', failed: '✗', fault: '!' };
const number = (value, digits) => Number(value.toFixed(digits)).toString();
const sign = (trial) => SIGNS[outcome(trial)] || number(trial.reward, 2);

function duration(s) {
  if (!s) return '-';
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${s.toFixed(0)} s`;
  return s < 7200 ? `${(s / 60).toFixed(0)} min` : `${(s / 3600).toFixed(1)} h`;
}
const money = (usd) => (usd === null || usd === undefined ? '-' : usd < 0.1 ? `$${usd.toFixed(4)}` : `$${usd.toFixed(2)}`);
function amount(n) {
  for (const [size, unit] of [[1e9, 'G'], [1e6, 'M'], [1e3, 'k']]) if (n >= size) return `${(n / size).toFixed(1)}${unit}`;
  return String(n || 0);
}

// Return a text in its own box, folded where it is long.
function folded(text, shown) {
  const pre = el('pre');
  paint(text, pre);
  const lines = text.split('\n').length;
  if (lines <= LONG && text.length < 3000) return [pre];
  pre.classList.add('folded');
  const more = el('button.more', { type: 'button', 'aria-expanded': 'false' }, `Show all ${lines} lines`);
  more.addEventListener('click', () => {
    const open = !pre.classList.toggle('folded');
    more.setAttribute('aria-expanded', String(open));
    more.textContent = open ? 'Show less' : `Show all ${lines} lines`;
  });
  return [pre, more];
}

const LINE = { '+': 'a', '-': 'd', '@': 'h', '\\': 'h' };
function diffLines(lines) {
  return el('div.diff', null, ...lines.map((line) => el(LINE[line[0]] ? `div.${LINE[line[0]]}` : 'div', null, line)));
}

// Return a unified diff, a file at a time.
function diff(text) {
  const files = [];
  let file = null, body = 0;
  for (const line of text.replace(/\n$/, '').split('\n')) {
    if (line.startsWith('diff --git ') || (!body && line.startsWith('--- ') && (!file || file.lines.length))) {
      file = { name: '', lines: [], plus: 0, minus: 0, what: '' };
      files.push(file);
    }
    if (!file) { file = { name: '', lines: [], plus: 0, minus: 0, what: '' }; files.push(file); }
    const hunk = /^@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@/.exec(line);
    if (hunk) { body = Number(hunk[1] ?? 1) + Number(hunk[2] ?? 1); file.lines.push(line); continue; }
    if (body > 0) {
      if (line[0] === '+') { file.plus += 1; body -= 1; } else if (line[0] === '-') { file.minus += 1; body -= 1; }
      else if (line[0] !== '\\') body -= 2;
      file.lines.push(line);
      continue;
    }
    const named = /^(?:\+\+\+ (?:b\/)?|rename to )(.*)$/.exec(line) || /^--- (?:a\/)?(.*)$/.exec(line);
    if (named && named[1].trim() === '/dev/null') file.what = line[0] === '-' ? 'new file' : 'deleted file';
    else if (named) file.name = named[1].split('\t')[0];
    else if (/^(new file|deleted file|rename|Binary)/.test(line)) file.what = line.startsWith('Binary') ? 'binary' : line.split(' mode')[0];
    else if (line.startsWith('diff --git ')) file.name = line.slice(11).split(' b/').pop();
    else if (!/^(index|similarity|old mode|new mode|---|\\)/.test(line)) file.lines.push(line);
  }
  return files.map((one) => el('details.file', { open: one.lines.length < 400, 'data-path': one.name },
    el('summary', null, one.name || 'changes', one.what !== 'binary' && el('span.plus', null, `+${one.plus}`), one.what !== 'binary' && el('span.minus', null, `−${one.minus}`),
      one.what && el('em', null, one.what)), diffLines(one.lines)));
}

function pictures(paths) { return (paths || []).map((path) => el('img.picture', { src: path, alt: 'image in the trajectory' })); }

function stepOf(step) {
  const usage = step.usage && `${amount(step.usage[0])} in${step.usage[1] ? ` (${amount(step.usage[1])} cached)` : ''}, ${amount(step.usage[2])} out${step.usage[3] != null ? `, ${money(step.usage[3])}` : ''}`;
  const results = step.results || [];
  const parts = [el('div.who', null, el('b', null, step.by), step.at !== undefined && el('span', null, `+${duration(step.at)}`),
    step.model && el('span', null, step.model), usage && el('span', null, usage), step.note && el('span', null, step.note))];
  if (step.thoughts) parts.push(el('details.thoughts', null, el('summary', null, 'Thoughts'), el('p.said', null, step.thoughts)));
  if (step.text) parts.push(step.text.length > 4000 ? el('div.box', null, ...folded(step.text)) : el('p.said', null, step.text));
  parts.push(...pictures(step.pictures));
  for (const call of step.calls || []) {
    const mine = results.filter((one) => one.of === call.id);
    parts.push(el('div.call', null,
      el('header', null, el('b.mono', null, call.name), el('span', null, mine.map((one) => one.note).filter(Boolean).join(' · '))),
      ...(mine.some((one) => one.diff) ? [] : folded(call.asked || '')),
      ...mine.flatMap((one) => [one.text && el('div.result', null, ...folded(one.text)), ...(one.diff ? diff(one.diff) : []), ...pictures(one.pictures)].filter(Boolean))));
  }
  const known = new Set((step.calls || []).map((call) => call.id));
  for (const one of results.filter((result) => !known.has(result.of))) {
    parts.push(el('div.call', null, el('header', null, el('b', null, 'observation'), el('span', null, one.note || '')), ...folded(one.text || ''), ...pictures(one.pictures)));
  }
  return el(`div.step.${step.by}`, null, el('div.no', null, String(step.n)), el('div', null, ...parts));
}

function changed(found) {
  const parts = found.diff ? diff(found.diff) : [];
  if (found.changes.length) {
    const counts = ['added', 'changed', 'removed'].map((how) => [how, found.changes.filter((one) => one.how === how).length]);
    parts.push(el('p.note', null, `Against the image: ${counts.filter(([, n]) => n).map(([how, n]) => `${n} ${how}`).join(', ')}.`));
  }
  const known = new Set(parts.map((part) => part.dataset.path));
  for (const one of found.changes.filter(({ path }) => !known.has(path.replace(/^\//, '')))) {
    const head = [one.path, el('em', null, one.how + (one.more ? ', its beginning' : ''))];
    if (one.text === undefined) parts.push(el('div.file', null, el('summary', null, ...head)));
    else if (one.how === 'added') parts.push(el('details.file', null, el('summary', null, ...head), diffLines(one.text.replace(/\n$/, '').split('\n').map((line) => `+${line}`))));
    else parts.push(el('details.file', null, el('summary', null, ...head), el('div.diff', null, ...one.text.replace(/\n$/, '').split('\n').map((line) => el('div', null, line)))));
  }
  return parts;
}

function verified(found, trial) {
  const parts = [];
  const rewards = Object.entries(trial.rewards || {});
  if (rewards.length) parts.push(el('p', null, `Rewards: ${rewards.map(([name, value]) => `${name} ${value}`).join(', ')}`));
  if (found.tests.length) {
    const row = (test) => el('tr', null, el('td', null, el(`span.chip.${test.status === 'passed' ? 'passed' : test.status === 'failed' ? 'failed' : 'fault'}`, null, test.status || '?')),
      el('td.name', null, test.name, test.message && el('pre', null, test.message)));
    parts.push(el('div.rows', null, el('table.tests', null, el('tbody', null, ...found.tests.map(row)))));
  }
  for (const file of found.verifier) if (file.name !== 'ctrf.json' || !found.tests.length) parts.push(el('div.box', null, el('h3.mono', null, file.name), ...folded(file.text)));
  return parts;
}

function facts(trial) {
  const times = trial.times || {}, cost = trial.cost || {};
  const pairs = [
    ['Ended', trial.ended], ['Model asked for', trial.model],
    ['Served by', (trial.served || []).map((one) => `${one.model} (${one.requests})${one.substitution ? `, in place of ${one.requested}: ${one.substitution}` : ''}`).join('; ')],
    ['Time', duration(times.total)],
    ['Time by part', [['build', times.build], ['start', times.start], ['agent', times.agent], ['model', times.model], ['tools', times.tool], ['verifier', times.verify]].filter(([, s]) => s >= 0.05).map(([name, s]) => `${name} ${duration(s)}`).join(', ')],
    ['Tokens', cost.input_tokens || cost.output_tokens ? `${amount(cost.input_tokens)} in (${amount(cost.cached_tokens)} cached), ${amount(cost.output_tokens)} out, ${cost.requests} requests` : ''],
    ['Cost', cost.usd === null || cost.usd === undefined ? '' : money(cost.usd)], ['Steps', trial.steps ? String(trial.steps) : ''],
    ['Environment', trial.environment], ['Stand-ins', (trial.standins || []).join(', ')], ['Began', trial.began ? new Date(trial.began).toISOString().slice(0, 19).replace('T', ' ') + ' UTC' : ''],
    ['Task digest', (trial.digest || '').slice(0, 16)], ['Files', `trials/${trial.id}/`],
  ];
  return el('dl.grid-facts', null, ...pairs.filter(([, value]) => value).map(([name, value]) => el(name === 'Time by part' || name === 'Served by' ? 'div.span' : 'div', null, el('dt', null, name), el('dd', null, value))));
}

// Return a trial's part of the page. `found` is its evidence, `around` the addresses of its neighbours.
function trialPage(trial, found, around) {
  const kind = outcome(trial);
  const link = (name, to) => el('a', to ? { href: to } : { 'aria-disabled': 'true' }, name);
  const words = { passed: 'passed', failed: 'failed', fault: 'fault', partial: `partial, ${number(trial.reward || 0, 3)}` };
  const panes = [
    ['Steps', found.steps.length, () => found.steps.map(stepOf)],
    ['Changes', (found.diff ? 1 : 0) + found.changes.length, () => changed(found)],
    ['Terminal', found.terminal ? 1 : 0, () => [player(found.terminal)]],
    ['Verifier', found.verifier.length + found.tests.length, () => verified(found, trial)],
    ['Log', found.log ? 1 : 0, () => [el('div.box', null, ...folded(found.log))]],
  ].filter(([, count]) => count);
  const pane = el('div.pane', { role: 'tabpanel' });
  const tabs = panes.map(([name, count, make], at) => el('button', { type: 'button', role: 'tab', 'aria-selected': String(at === 0), onclick: (event) => {
    for (const tab of tabs) tab.setAttribute('aria-selected', String(tab === event.currentTarget));
    pane.replaceChildren(...make());
  } }, name === 'Steps' ? `Steps ${count}` : name));
  if (panes.length) pane.replaceChildren(...panes[0][2]());
  const flags = (trial.flags || []).map((flag) => el('li', null, el('b', null, flag.kind), ` (${Math.round(flag.sure * 100)} % sure): ${flag.why}`, flag.where && ` [${flag.where}]`));
  const faults = (trial.faults || []).map((fault) => el('li', null, el('b', null, fault.stage), `: ${fault.why}`));
  return [
    el('div.head', null, el('h2', { tabindex: -1 }, trial.task), el(`span.chip.${kind}`, null, words[kind]), el('span.note', null, `attempt ${trial.attempt}${trial.category ? ` · ${trial.category}` : ''}`),
      el('nav', { 'aria-label': 'Trials' }, link('← Previous', around.before), link('All trials', '#/'), link('Next →', around.after))),
    trial.why && el(kind === 'fault' ? 'p.why.bad' : 'p.why', null, trial.why),
    flags.length > 0 && el('ul.flags', { 'aria-label': 'What the audit flagged' }, ...flags),
    faults.length > 0 && el('ul.flags.bad', { 'aria-label': 'Faults of the infrastructure' }, ...faults),
    facts(trial),
    trial.answer && el('div.box', null, el('h3', null, 'Answer'), ...folded(trial.answer)),
    found.instruction && el('div.box', null, el('h3', null, 'Instruction'), ...folded(found.instruction)),
    ...(found.cut || []).map((line) => el('p.note', null, line)),
    panes.length ? el('div.switch.tabs', { role: 'tablist' }, ...tabs) : el('p.note', null, 'This trial left no files.'),
    pane,
  ].filter(Boolean);
}
