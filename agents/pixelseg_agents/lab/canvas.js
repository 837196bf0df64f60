const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
let state = null, draft = null, cursor = null, down = false, focused = false;

function part(name) { return element.querySelector(name); }

function load() {
  if (!props.value) return;
  const got = JSON.parse(props.value);
  state = {...got};
  for (const name of ['image', 'map', 'level', 'target', 'idle']) state[name] = bytes(got[name]);
  draft = Uint8Array.from(state.idle);
  if (!cursor || cursor[0] >= state.height || cursor[1] >= state.width)
    cursor = [state.height >> 1, state.width >> 1];
  attach();
  offer();
  draw();
}

// Zero and keep, or the amounts that a step may add.
function offer() {
  const select = part('.paint-amount select'), graded = Boolean(state.amounts);
  for (const one of element.querySelectorAll('.paint-amount')) one.hidden = !graded;
  for (const one of element.querySelectorAll('.paint-kind')) one.hidden = graded;
  if (graded && !select.options.length)
    state.amounts.forEach((amount, k) => select.add(new Option((amount > 0 ? '+' : '\u2212') + Math.abs(amount), k)));
}

function brush() {
  return Number((state.amounts ? part('.paint-amount select') : part('input[type=radio]:checked')).value);
}

function choose(kept) {
  if (state.amounts) part('.paint-amount select').value = kept ? state.amounts.length - 1 : 0;
  else element.querySelectorAll('input[type=radio]')[kept ? 1 : 0].checked = true;
}

function nextAmount(by) {
  const select = part('.paint-amount select');
  select.selectedIndex = Math.min(select.options.length - 1, Math.max(0, select.selectedIndex + by));
}

// What a pixel is after the step: 0, 1, or a probability in between.
function after(k) {
  return state.amounts ? Math.min(1, Math.max(0, state.level[k] / 255 + state.amounts[draft[k]])) : draft[k];
}

function attach() {
  const canvas = part('canvas');
  if (!canvas || canvas.dataset.ready) return;
  canvas.dataset.ready = 'yes';
  canvas.addEventListener('pointerdown', (event) => {
    if (state.over) return;
    down = true; canvas.setPointerCapture(event.pointerId); at(event); dab(); event.preventDefault(); canvas.focus();
  });
  canvas.addEventListener('pointermove', (event) => { if (down) { at(event); dab(); } });
  for (const name of ['pointerup', 'pointercancel']) canvas.addEventListener(name, () => { down = false; });
  canvas.addEventListener('focus', () => { focused = true; draw(); });
  canvas.addEventListener('blur', () => { focused = false; draw(); });
  canvas.addEventListener('keydown', (event) => {
    const by = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
    const key = event.key.toLowerCase();
    if (by) {
      const far = event.shiftKey ? 8 : 1;
      cursor = [Math.min(state.height - 1, Math.max(0, cursor[0] + far * by[0])),
                Math.min(state.width - 1, Math.max(0, cursor[1] + far * by[1]))];
      draw();
    } else if (event.key === ' ') dab();
    else if (event.key === 'Enter') take();
    else if (key === 'z' || key === 'k') choose(key === 'k');
    else if (state.amounts && '+-'.includes(key)) nextAmount(key === '+' ? 1 : -1);
    else return;
    event.preventDefault();
  });
  part('.paint-take').addEventListener('click', take);
  part('.paint-clear').addEventListener('click', () => { draft = Uint8Array.from(state.idle); draw(); });
  part('.paint-truth input').addEventListener('change', draw);
}

function at(event) {
  const box = part('canvas').getBoundingClientRect();
  cursor = [Math.min(state.height - 1, Math.max(0, Math.floor((event.clientY - box.top) / box.height * state.height))),
            Math.min(state.width - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * state.width)))];
}

function dab() {
  if (state.over) return;
  const size = Number(part('.paint-size input').value), reach = (size - 1) / 2;
  const value = brush();
  for (let r = Math.floor(cursor[0] - reach); r <= cursor[0] + reach; r++)
    for (let c = Math.floor(cursor[1] - reach); c <= cursor[1] + reach; c++) {
      if (r < 0 || c < 0 || r >= state.height || c >= state.width) continue;
      if (Math.hypot(r - cursor[0], c - cursor[1]) > reach + 0.3) continue;
      const k = r * state.width + c;
      if (!(state.final && !state.map[k])) draft[k] = value;
    }
  draw();
}

function take() {
  if (!state.over) trigger('take', {painting: Array.from(draft).join('')});
}

function draw() {
  const canvas = part('canvas');
  if (!canvas || !state) return;
  const {height, width} = state, zoom = Math.max(1, Math.round(448 / Math.max(height, width)));
  canvas.width = width * zoom; canvas.height = height * zoom;
  const pen = canvas.getContext('2d');
  for (let r = 0; r < height; r++)
    for (let c = 0; c < width; c++) {
      const k = r * width + c, kept = after(k), grey = state.image[k] * (0.25 + 0.75 * kept), gone = 1 - kept;
      let [red, green, blue] = [grey + 22 * gone, grey + 25 * gone, grey + 32 * gone];
      if (Number(kept >= 0.5) !== state.map[k]) { red = red * 0.45 + 125; green *= 0.55; blue *= 0.55; }
      pen.fillStyle = `rgb(${red | 0},${green | 0},${blue | 0})`;
      pen.fillRect(c * zoom, r * zoom, zoom, zoom);
    }
  if (part('.paint-truth input').checked) {
    pen.strokeStyle = '#56B4E9'; pen.lineWidth = 2; pen.beginPath();
    const inside = (r, c) => r >= 0 && c >= 0 && r < height && c < width && state.target[r * width + c];
    for (let r = 0; r <= height; r++)
      for (let c = 0; c <= width; c++) {
        if (inside(r, c) !== inside(r - 1, c)) { pen.moveTo(c * zoom, r * zoom); pen.lineTo((c + 1) * zoom, r * zoom); }
        if (inside(r, c) !== inside(r, c - 1)) { pen.moveTo(c * zoom, r * zoom); pen.lineTo(c * zoom, (r + 1) * zoom); }
      }
    pen.stroke();
  }
  if (focused) {
    const size = Number(part('.paint-size input').value);
    pen.strokeStyle = '#FFD166'; pen.lineWidth = 2; pen.beginPath();
    pen.arc((cursor[1] + 0.5) * zoom, (cursor[0] + 0.5) * zoom, Math.max(2, size * zoom / 2), 0, 7); pen.stroke();
  }
  part('.paint-take').disabled = state.over;
  part('.paint-take').textContent = state.over ? 'The episode is over' : `Take step ${state.step + 1}`;
}

load();
watch('value', load);
