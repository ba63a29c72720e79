export default function ({ data, parentElement: root }) {
  const $ = (s) => root.querySelector(s), stage = $('.stage'), moved = $('.moved'), evidence = $('.evidence'), boxes = $('.boxes');
  stage.setAttribute('aria-label', data.title);
  $('.image').src = data.image;
  moved.style.width = `min(100%, ${(75 * data.width / data.height).toFixed(2)}vh)`;
  $('.layers').style.display = data.evidence ? '' : 'none';
  evidence.style.display = data.evidence ? '' : 'none';
  if (stage.dataset.shown !== data.title) { $('.show').checked = data.visible; stage.dataset.shown = data.title; }
  if (data.evidence) evidence.src = data.evidence;
  boxes.replaceChildren(...data.boxes.map((b) => {
    const r = document.createElementNS('http://www.w3.org/2000/svg', 'rect');
    for (const k of ['x', 'y', 'width', 'height']) r.setAttribute(k, b[k]);
    if (!b.certain) r.classList.add('doubtful');
    return r; }));
  const fade = () => { evidence.style.opacity = $('.show').checked ? $('.fade').value / 100 : 0; boxes.style.display = $('.show-boxes').checked ? '' : 'none'; };
  for (const s of ['.show', '.fade', '.show-boxes']) $(s).oninput = fade;
  fade();
  let scale = 1, x = 0, y = 0;
  const place = () => {
    const w = moved.offsetWidth, h = moved.offsetHeight;
    x = Math.min(0, Math.max(w * (1 - scale), x)); y = Math.min(0, Math.max(h * (1 - scale), y));
    moved.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    stage.style.touchAction = scale > 1 ? 'none' : 'pan-y'; stage.dataset.scale = scale.toFixed(2); boxes.style.setProperty('--zoom', scale); };
  const zoom = (by, cx, cy) => {
    const box = moved.getBoundingClientRect(), px = cx === undefined ? moved.offsetWidth / 2 - x : (cx - box.left), py = cy === undefined ? moved.offsetHeight / 2 - y : (cy - box.top);
    const next = Math.min(12, Math.max(1, scale * by)), k = next / scale;
    x -= px * (k - 1); y -= py * (k - 1); scale = next; place(); };
  const fullImage = () => { scale = 1; x = y = 0; place(); };
  $('.in').onclick = () => zoom(1.5); $('.out').onclick = () => zoom(1 / 1.5); $('.full').onclick = fullImage;
  stage.ondblclick = (e) => zoom(2, e.clientX, e.clientY);
  stage.onwheel = (e) => { if (e.ctrlKey) { e.preventDefault(); zoom(e.deltaY < 0 ? 1.2 : 1 / 1.2, e.clientX, e.clientY); } };
  const keys = { '+': () => zoom(1.5), '=': () => zoom(1.5), '-': () => zoom(1 / 1.5), '0': fullImage, ArrowLeft: () => { x += 60; place(); }, ArrowRight: () => { x -= 60; place(); }, ArrowUp: () => { y += 60; place(); }, ArrowDown: () => { y -= 60; place(); } };
  stage.onkeydown = (e) => { const act = keys[e.key]; if (act && !e.ctrlKey && !e.metaKey && (scale > 1 || !e.key.startsWith('Arrow'))) { e.preventDefault(); act(); } };
  const down = new Map(); let apart = 0;
  stage.onpointerdown = (e) => { down.set(e.pointerId, e); stage.setPointerCapture(e.pointerId); };
  stage.onpointermove = (e) => {
    const last = down.get(e.pointerId); if (!last) return;
    if (down.size === 1 && scale > 1) { x += e.clientX - last.clientX; y += e.clientY - last.clientY; place(); }
    down.set(e.pointerId, e);
    if (down.size === 2) {
      const [a, b] = [...down.values()], d = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
      if (apart) zoom(d / apart, (a.clientX + b.clientX) / 2, (a.clientY + b.clientY) / 2);
      apart = d; } };
  stage.onpointerup = stage.onpointercancel = (e) => { down.delete(e.pointerId); apart = 0; };
  place();
}
