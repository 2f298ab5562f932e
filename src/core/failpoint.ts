/**
 * Named places at which a test can kill the process, to try every order of events. A failpoint is placed where a crash
 * does the most harm, and is named after what has just happened. In production the table is empty and a call costs one
 * comparison.
 *
 * MILLRACE_FAILPOINTS="redis.rows-written=kill@3,ack.stored=kill": SIGKILL at the third, or first, time; "=abort": SIGABRT,
 * as a fault of a library ends a process;
 * "sink.prepared:public.orders/2=kill": at the first time for that version of the table.
 */
const armed = parseFailpoints(process.env["MILLRACE_FAILPOINTS"] ?? "");

/** `table` lets a test choose the table. */
export function failpoint(name: string, table?: { readonly id: string; readonly version?: number }): void {
  if (armed.size === 0) return;
  pass(name);
  if (table === undefined) return;
  pass(`${name}:${table.id}`);
  if (table.version !== undefined) pass(`${name}:${table.id}/${table.version}`);
}

function pass(name: string): void {
  const found = armed.get(name);
  if (found === undefined) return;
  if (--found.left <= 0) process.kill(process.pid, found.signal);
}

interface Armed {
  left: number;
  readonly signal: "SIGKILL" | "SIGABRT";
}

function parseFailpoints(text: string): Map<string, Armed> {
  const result = new Map<string, Armed>();
  for (const entry of text.split(",").filter((e) => e !== "")) {
    const match = /^([a-z.-]+(?::[^=]+)?)=(kill|abort)(?:@(\d+))?$/.exec(entry);
    if (!match)
      throw new Error(
        `MILLRACE_FAILPOINTS: ${JSON.stringify(entry)} is not NAME=kill, NAME=kill@COUNT or NAME:TABLE[/VERSION]=kill (or abort)`,
      );
    result.set(match[1]!, { left: Number(match[3] ?? 1), signal: match[2] === "abort" ? "SIGABRT" : "SIGKILL" });
  }
  return result;
}
