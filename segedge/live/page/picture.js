// One source's picture: decodes a message, and blends picture and classes as the viewer likes.

export class Picture {
  constructor(canvas) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    this.layer = document.createElement("canvas");
    this.layerPen = this.layer.getContext("2d");
    this.header = null;
    this.queue = Promise.resolve();
  }

  // In order, also where decoding takes unequally long. Resolves when it is drawn.
  show(message, look) {
    const before = this.queue.catch(() => {}); // one broken message is one lost frame
    this.queue = before.then(() => this.decode(message)).then(() => this.draw(look()));
    return this.queue;
  }

  async decode(message) {
    const length = new DataView(message).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(message, 4, length)));
    const start = 4 + length, end = start + header.jpeg_bytes;
    const jpeg = new Blob([new Uint8Array(message, start, header.jpeg_bytes)], { type: "image/jpeg" });
    const [bitmap, labels] = await Promise.all([
      createImageBitmap(jpeg),
      inflate(new Uint8Array(message, end), header),
    ]);
    this.bitmap?.close();
    Object.assign(this, { header, bitmap, labels });
    for (const canvas of [this.canvas, this.layer]) {
      if (canvas.width !== header.columns || canvas.height !== header.rows) {
        canvas.width = header.columns;
        canvas.height = header.rows;
        this.image = null;
      }
    }
    this.image ??= this.layerPen.createImageData(header.columns, header.rows);
    this.colors ??= new Uint32Array(65536);
  }

  // look: {mode, opacity (0..1), palette ([r, g, b] by label), off (set of labels)}
  draw(look) {
    if (!this.header) return;
    const { pen, canvas } = this;
    pen.globalAlpha = 1;
    if (look.mode === "mask") pen.clearRect(0, 0, canvas.width, canvas.height);
    else pen.drawImage(this.bitmap, 0, 0);
    if (look.mode === "original") return;
    this.colour(look);
    pen.globalAlpha = look.mode === "mask" ? 1 : look.opacity;
    pen.drawImage(this.layer, 0, 0);
  }

  colour({ palette, off }) {
    const { colors, labels } = this;
    colors.fill(0); // transparent: labels without a class, and classes that are off
    palette.forEach(([r, g, b], label) => {
      if (!off.has(label)) colors[label] = (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;
    });
    const out = new Uint32Array(this.image.data.buffer);
    for (let i = 0; i < out.length; i++) out[i] = colors[labels[i]];
    this.layerPen.putImageData(this.image, 0, 0);
  }
}

// Rows are differences to the row above, modulo the size of a label.
async function inflate(bytes, { rows, columns, bytes_per_label }) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  const labels = bytes_per_label === 1 ? new Uint8Array(buffer) : new Uint16Array(buffer);
  for (let i = columns; i < rows * columns; i++) labels[i] += labels[i - columns];
  return labels;
}
