import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { hasCode } from "./errno.ts";

/** A process and all its descendants, parents first, so that a frozen parent can't start another child meanwhile. */
export function processTree(root: number): number[] {
  const children = process.platform === "linux" ? childrenFromProc() : childrenFromPs();
  const tree = [root];
  for (let index = 0; index < tree.length; index += 1) tree.push(...(children.get(tree[index] ?? -1) ?? []));
  return tree;
}

/** Sends a signal (0 only checks for existence) and returns how many processes received it. */
export function signalAll(pids: readonly number[], signal: NodeJS.Signals | 0): number {
  let reached = 0;
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
      if (signal !== 0 || !isZombie(pid)) reached += 1;
    } catch (error) {
      if (!hasCode(error, "ESRCH")) throw error;
    }
  }
  return reached;
}

function childrenFromProc(): Map<number, number[]> {
  const children = new Map<number, number[]>();
  for (const entry of readdirSync("/proc")) {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) continue;
    const parent = Number(statFields(pid)?.[1]);
    if (Number.isInteger(parent)) append(children, parent, pid);
  }
  return children;
}

function childrenFromPs(): Map<number, number[]> {
  const children = new Map<number, number[]>();
  for (const line of execFileSync("ps", ["-axo", "pid=,ppid="], { encoding: "utf8" }).split("\n")) {
    const [pid, parent] = line.trim().split(/\s+/).map(Number);
    if (pid !== undefined && parent !== undefined) append(children, parent, pid);
  }
  return children;
}

function append(children: Map<number, number[]>, parent: number, pid: number): void {
  const known = children.get(parent);
  if (known === undefined) children.set(parent, [pid]);
  else known.push(pid);
}

/** State and parent of a process; the command's name before them may hold blanks and brackets. */
function statFields(pid: number): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    return text.slice(text.lastIndexOf(")") + 2).split(" ");
  } catch {
    return undefined;
  }
}

/** A zombie that waits for its new parent counts as gone. */
function isZombie(pid: number): boolean {
  return process.platform === "linux" && statFields(pid)?.[0] === "Z";
}
