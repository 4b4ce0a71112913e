// The WebSocket: messages in, wishes out, and again when it breaks.

const FIRST_WAIT_MS = 400, LONGEST_WAIT_MS = 4000;
// The run says goodbye with the first; where the server is quicker, it says the second itself.
const ENDED = [1001, 1012];

export class Connection {
  // on: {sources, stats, frame, up, down}
  constructor(on) {
    this.on = on;
    this.wait = FIRST_WAIT_MS;
    const query = new URLSearchParams(location.search);
    // Kept here and not in the address bar: addresses are shared and photographed.
    this.token = query.get("token");
    if (this.token) history.replaceState(null, "", location.pathname);
    this.open();
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const query = this.token ? `?token=${encodeURIComponent(this.token)}` : "";
    const socket = new WebSocket(`${scheme}://${location.host}/ws${query}`);
    socket.binaryType = "arraybuffer";
    let wasOpen = false;
    socket.onopen = () => {
      wasOpen = true;
      this.wait = FIRST_WAIT_MS;
      this.on.up();
    };
    socket.onmessage = ({ data }) => {
      if (typeof data !== "string") return this.on.frame(data);
      const message = JSON.parse(data);
      this.on[message.kind](message);
    };
    socket.onclose = ({ code }) => {
      this.on.down({ hasEnded: ENDED.includes(code), wasOpen });
      if (!wasOpen) this.askWhy();
      setTimeout(() => this.open(), this.wait);
      this.wait = Math.min(this.wait * 2, LONGEST_WAIT_MS);
    };
    this.socket = socket;
  }

  // A server that started anew has a new token: its own page says so.
  async askWhy() {
    try {
      const answer = await fetch("/", { method: "HEAD" });
      if (answer.status === 401 || answer.status === 403) location.reload();
    } catch { /* not there yet */ }
  }

  send(wish) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(wish));
  }
}
