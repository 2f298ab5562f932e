import { createConnection, createServer, type Socket } from "node:net";
import { once } from "node:events";
import { expect, test } from "vitest";
import { freePort } from "../../scripts/services/processes/port.ts";
import { tcpProxy, type TcpProxy } from "../support/network/proxy.ts";
import { eventually } from "../support/run/waiting.ts";

interface Echo extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  readonly sockets: Socket[];
}

async function echoServer(): Promise<Echo> {
  const sockets: Socket[] = [];
  const port = await freePort();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.push(socket);
    socket.on("error", () => {});
    socket.on("data", (bytes) => socket.write(bytes));
    socket.on("end", () => socket.end());
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return {
    host: "127.0.0.1",
    port,
    sockets,
    async [Symbol.asyncDispose]() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

interface Talker extends Disposable {
  readonly socket: Socket;
  readonly heard: () => string;
  readonly error: () => string | undefined;
  readonly ended: () => boolean;
}

function talkTo({ host, port }: TcpProxy): Talker {
  const socket = createConnection({ host, port, allowHalfOpen: true });
  let heard = "";
  let error: string | undefined;
  let ended = false;
  socket.on("data", (bytes) => (heard += bytes.toString("latin1")));
  socket.on("error", (cause: NodeJS.ErrnoException) => (error = cause.code));
  socket.on("end", () => (ended = true));
  return {
    socket,
    heard: () => heard,
    error: () => error,
    ended: () => ended,
    [Symbol.dispose]: () => socket.destroy(),
  };
}

test("forwards both ways, counts, and puts itself into URLs", async () => {
  await using echo = await echoServer();
  await using proxy = await tcpProxy(echo);
  using talker = talkTo(proxy);
  talker.socket.write("hello");
  await eventually(() => talker.heard() === "hello");
  expect(proxy.counters).toEqual({ accepted: 1, open: 1, bytesToServer: 5, bytesToClient: 5 });
  const address = `127.0.0.1:${proxy.port}`;
  expect(proxy.url("postgres://me:secret@db.example:5433/shop?x=1")).toBe(`postgres://me:secret@${address}/shop?x=1`);
  expect(proxy.url("http://search.example/")).toBe(`http://${address}/`);
  expect(proxy.url("redis://cache.example:6379/0")).toBe(`redis://${address}/0`);
  talker.socket.end();
  await eventually(() => talker.ended() && proxy.counters.open === 0);
});

test("cut resets both sides, and new connections work", async () => {
  await using echo = await echoServer();
  await using proxy = await tcpProxy(echo);
  using talker = talkTo(proxy);
  talker.socket.write("a");
  await eventually(() => talker.heard() === "a");
  proxy.cut();
  await eventually(() => talker.error() === "ECONNRESET" && echo.sockets[0]?.destroyed === true);
  using next = talkTo(proxy);
  next.socket.write("b");
  await eventually(() => next.heard() === "b");
});

test("a stalled connection stays open and silent, and delivers late after resume", async () => {
  await using echo = await echoServer();
  await using proxy = await tcpProxy(echo);
  using talker = talkTo(proxy);
  talker.socket.write("a");
  await eventually(() => talker.heard() === "a");
  proxy.stall();
  talker.socket.write("b");
  using later = talkTo(proxy);
  await once(later.socket, "connect");
  later.socket.write("c");
  proxy.delay(0);
  await eventually(() => proxy.counters.accepted === 2);
  expect([talker.heard(), later.heard()]).toEqual(["a", ""]);
  await proxy.resume();
  await eventually(() => talker.heard() === "ab" && later.heard() === "c");
});

test("stalled towards the client, requests arrive and answers do not", async () => {
  await using echo = await echoServer();
  await using proxy = await tcpProxy(echo);
  proxy.stall("toClient");
  using talker = talkTo(proxy);
  talker.socket.write("commit");
  await eventually(() => proxy.counters.bytesToServer === 6);
  await eventually(() => echo.sockets[0]?.bytesWritten === 6);
  expect(talker.heard()).toBe("");
  proxy.cut();
  await eventually(() => talker.error() === "ECONNRESET");
});

test("a client that goes away is not noticed through a stall", async () => {
  await using echo = await echoServer();
  await using proxy = await tcpProxy(echo);
  const talker = talkTo(proxy);
  talker.socket.write("a");
  await eventually(() => talker.heard() === "a");
  proxy.stall();
  talker.socket.resetAndDestroy();
  using other = talkTo(proxy);
  await once(other.socket, "connect");
  expect(echo.sockets[0]?.destroyed).toBe(false);
  await proxy.resume();
  await eventually(() => echo.sockets[0]?.destroyed === true);
});

test("half-closed towards the client, it sees the end and can still send", async () => {
  await using echo = await echoServer();
  await using proxy = await tcpProxy(echo);
  using talker = talkTo(proxy);
  talker.socket.write("a");
  await eventually(() => talker.heard() === "a");
  proxy.halfClose("client");
  await eventually(() => talker.ended());
  talker.socket.write("more");
  await eventually(() => proxy.counters.bytesToServer === 5);
});

test("refuse turns new connections away and keeps the open ones", async () => {
  await using echo = await echoServer();
  await using proxy = await tcpProxy(echo);
  using open = talkTo(proxy);
  open.socket.write("a");
  await eventually(() => open.heard() === "a");
  await proxy.refuse();
  using refused = talkTo(proxy);
  await eventually(() => refused.error() === "ECONNREFUSED");
  open.socket.write("b");
  await eventually(() => open.heard() === "ab");
  await proxy.resume();
  using again = talkTo(proxy);
  again.socket.write("c");
  await eventually(() => again.heard() === "c");
});

test("delay and limit slow it down without losing or reordering bytes", async () => {
  await using echo = await echoServer();
  await using proxy = await tcpProxy(echo);
  const text = "0123456789".repeat(2_000);
  using delayed = talkTo(proxy);
  await once(delayed.socket, "connect");
  proxy.delay(60);
  const delayedAt = performance.now();
  delayed.socket.write("x");
  await eventually(() => delayed.heard() === "x");
  expect(performance.now() - delayedAt).toBeGreaterThanOrEqual(118);
  proxy.delay(0);
  proxy.limit(100_000);
  const limitedAt = performance.now();
  delayed.socket.write(text);
  await eventually(() => delayed.heard().length === text.length + 1);
  expect(performance.now() - limitedAt).toBeGreaterThanOrEqual(180);
  expect(delayed.heard()).toBe(`x${text}`);
});

test("a server that is not there resets the client", async () => {
  await using proxy = await tcpProxy({ host: "127.0.0.1", port: await freePort() });
  using talker = talkTo(proxy);
  await eventually(() => talker.error() === "ECONNRESET");
});

test("a large transfer arrives whole through the proxy", async () => {
  await using echo = await echoServer();
  await using proxy = await tcpProxy(echo);
  using talker = talkTo(proxy);
  const text = "abcdefghij".repeat(1_000_000);
  talker.socket.end(text);
  await eventually(() => talker.ended());
  expect(talker.heard() === text).toBe(true);
});
