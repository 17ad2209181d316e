// Sends each chosen image by itself and shows the answer. Names of classes and files are text, never markup.
'use strict';

const element = id => document.getElementById(id);
const HEAT = [255, 96, 0];
const AT_ONCE = 4;  // uploads; the service batches what arrives together
let model = null;

async function start() {
  try {
    model = await (await fetch('model')).json();
    const run = model.source.run ? `, run ${model.source.run}` : '';
    element('model').textContent = `${model.method || 'model'}${run}: ${model.classes.length} classes, by ${model.engine}`;
  } catch (error) {
    element('state').textContent = 'The service does not answer.';
  }
}

async function classify(files) {
  const images = [...files].filter(file => file.type.startsWith('image/') || !file.type);
  const cards = images.map(addCard);
  let done = 0;
  const left = files.length - images.length;
  const leftOut = left ? `${left} left out: no image` : '';
  const tell = () => {
    element('state').textContent = done < images.length ? `${done} of ${images.length} …` : leftOut;
  };
  const waiting = images.map((file, index) => [file, cards[index]]);
  tell();
  const work = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      await show(...next);
      done += 1;
      tell();
    }
  };
  await Promise.all(Array.from({length: AT_ONCE}, work));
}

function addCard(file) {
  const card = element('card').content.firstElementChild.cloneNode(true);
  card.querySelector('.name').textContent = file.name || 'pasted image';
  const image = card.querySelector('img');
  image.src = URL.createObjectURL(file);
  image.alt = file.name;
  element('results').prepend(card);
  return card;
}

async function show(file, card) {
  try {
    if (model && file.size > model.limits.image_bytes) {
      throw new Error(`larger than ${Math.floor(model.limits.image_bytes / 2 ** 20)} MiB`);
    }
    const response = await fetch('predict?maps=1', {method: 'POST', body: file,
                                                    headers: {'content-type': 'application/octet-stream'}});
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    fill(card, answer.images[0]);
  } catch (error) {
    card.classList.add('error');
    card.querySelector('.note').textContent = `Not classified: ${error.message}`;
  }
  card.dataset.done = 'yes';
}

function fill(card, answer) {
  for (const {class: name, probability} of answer.predictions) {
    const bar = element('bar').content.firstElementChild.cloneNode(true);
    bar.querySelector('.class').textContent = name;
    bar.querySelector('.value').textContent = `${(100 * probability).toFixed(1)} %`;
    bar.querySelector('meter').value = probability;
    card.querySelector('.bars').append(bar);
  }
  if (answer.maps.length) {
    draw(card.querySelector('canvas'), answer.maps[0], answer.view);
    card.querySelector('figcaption').textContent = `Where it looks: ${answer.maps[0].name}`;
    document.body.classList.add('mapped');
  } else {
    card.querySelector('figcaption').textContent = `Where it looks is not known: ${answer.no_maps}`;
  }
}

// One pixel a value, enlarged by the browser, over the part of the image that the network saw.
function draw(canvas, map, [left, top, width, height]) {
  canvas.width = map.width;
  canvas.height = map.height;
  const context = canvas.getContext('2d');
  const pixels = context.createImageData(map.width, map.height);
  map.values.forEach((value, i) => pixels.data.set([...HEAT, Math.round(255 * value)], 4 * i));
  context.putImageData(pixels, 0, 0);
  Object.assign(canvas.style, {left: `${100 * left}%`, top: `${100 * top}%`, width: `${100 * width}%`,
                               height: `${100 * height}%`});
}

element('files').addEventListener('change', event => { classify(event.target.files); event.target.value = ''; });
element('opacity').addEventListener('input', event => {
  document.body.style.setProperty('--opacity', event.target.value / 100);
});
document.addEventListener('paste', event => classify(event.clipboardData.files));
const drop = element('drop');
for (const kind of ['dragenter', 'dragover', 'dragleave', 'drop']) {
  drop.addEventListener(kind, event => {
    event.preventDefault();
    drop.classList.toggle('over', kind === 'dragenter' || kind === 'dragover');
  });
}
drop.addEventListener('drop', event => classify(event.dataTransfer.files));
start();
