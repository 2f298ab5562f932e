/**
 * Loaded before the daemon of a drill, into each of its processes: every TCP connection that it makes goes to a proxy of the
 * drill (relay.ts). The configuration stays as it is, and so do the names that certificates are compared with.
 */
import { Socket, type TcpNetConnectOpts } from "node:net";

const ASK = process.env["MILLRACE_DRILL"] ?? "";
// oxlint-disable-next-line typescript/unbound-method -- it is called on each socket
const direct = Socket.prototype.connect;
const ports = new Map<string, Promise<number>>();

/** Held open: who has no drill any more ends. */
const line = new Socket();
let asking: Promise<unknown> = Promise.resolve();
line.setEncoding("utf8");
line.unref();
Reflect.apply(direct, line, [{ path: ASK }]);
line.on("error", () => undefined);
line.on("close", () => process.kill(process.pid, "SIGTERM"));

Socket.prototype.connect = function connect(this: Socket, ...given: unknown[]): Socket {
  const { options, listener } = wantedOf(given);
  if (options === null) return Reflect.apply(direct, this, given);
  const address = `${options.host ?? "localhost"}:${String(options.port)}`;
  const port = ports.get(address) ?? portOf(address);
  ports.set(address, port);
  if (listener !== null) this.once("connect", listener);
  // What is written meanwhile waits, as while a name is looked up.
  Reflect.set(this, "connecting", true);
  void port.then((to) => {
    if (!this.destroyed) Reflect.apply(direct, this, [{ ...options, lookup: undefined, host: "127.0.0.1", port: to }]);
  });
  return this;
};

/** One question after the other. */
async function portOf(address: string): Promise<number> {
  const before = asking;
  const { promise, resolve } = Promise.withResolvers<number>();
  asking = promise;
  await before;
  line.once("data", (port) => resolve(Number(port)));
  line.write(address);
  return await promise;
}

/** Options null: it is no connection over TCP. Node's own callers pass a list that they have checked. */
function wantedOf(given: readonly unknown[]): {
  readonly options: TcpNetConnectOpts | null;
  readonly listener: ((this: Socket) => void) | null;
} {
  const list: readonly unknown[] = Array.isArray(given[0]) ? given[0] : given;
  const [first, second] = list;
  const last = list.at(-1);
  const listener = isListener(last) ? last : null;
  if (isTcp(first)) return { options: first, listener };
  if (typeof first !== "number") return { options: null, listener };
  return { options: { port: first, host: typeof second === "string" ? second : "localhost" }, listener };
}

function isListener(value: unknown): value is (this: Socket) => void {
  return typeof value === "function";
}

function isTcp(value: unknown): value is TcpNetConnectOpts {
  return (
    typeof value === "object" &&
    value !== null &&
    "port" in value &&
    value.port != null &&
    !("path" in value && value.path != null)
  );
}
