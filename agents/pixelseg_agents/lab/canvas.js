const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
let state = null, draft = null, cursor = null, down = false, focused = false;

function part(name) { return element.querySelector(name); }

function load() {
  if (!props.value) return;
  const got = JSON.parse(props.value);
  state = {...got, image: bytes(got.image), map: bytes(got.map), target: bytes(got.target)};
  draft = Uint8Array.from(state.map);
  if (!cursor || cursor[0] >= state.height || cursor[1] >= state.width)
    cursor = [state.height >> 1, state.width >> 1];
  attach();
  draw();
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
    else if (key === 'z' || key === 'k') element.querySelectorAll('input[type=radio]')[key === 'k' ? 1 : 0].checked = true;
    else return;
    event.preventDefault();
  });
  part('.paint-take').addEventListener('click', take);
  part('.paint-clear').addEventListener('click', () => { draft = Uint8Array.from(state.map); draw(); });
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
  const value = Number(part('input[type=radio]:checked').value);
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
      const k = r * width + c, grey = state.image[k];
      let [red, green, blue] = draft[k] ? [grey, grey, grey] : [grey * 0.25 + 22, grey * 0.25 + 25, grey * 0.25 + 32];
      if (draft[k] !== state.map[k]) { red = red * 0.45 + 125; green *= 0.55; blue *= 0.55; }
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
