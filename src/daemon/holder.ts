import { readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";

/** Identifies this process to people and to other daemons: where it runs, its process id, and since when. */
export function holderName(): string {
  return `${hostname()} pid ${process.pid} in ${pidSpace()} since ${new Date().toISOString()}`;
}

/**
 * True if the holder was a process of this boot of this machine and of this namespace, and either no longer runs or has
 * this same process id.
 */
export function isGone(holder: string): boolean {
  const pid = localPid(holder);
  if (pid === null) return false;
  if (pid === process.pid) return true;
  try {
    process.kill(pid, 0);
    return isDefunct(pid);
  } catch (error) {
    return error instanceof Error && "code" in error && (error.code === "ESRCH" || error.code === "ENOENT");
  }
}

/** It has ended, and its parent, as a container's first process often is, does not ask how. */
function isDefunct(pid: number): boolean {
  if (process.platform !== "linux") return false;
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  return stat.slice(stat.lastIndexOf(")") + 2).startsWith("Z");
}

/** The process id of a holder of this boot of this machine and of this namespace; null for any other holder. */
export function localPid(holder: string): number | null {
  const match = /^(.*) pid (\d+) in (\S+) since /.exec(holder);
  if (match === null || match[1] !== hostname() || match[3] !== pidSpace()) return null;
  return Number(match[2]);
}

/**
 * Process ids are only comparable inside one namespace of one kernel: containers may share a host name and a volume, and so
 * may hosts, whose first namespaces have the same name.
 */
function pidSpace(): string {
  if (process.platform !== "linux") return process.platform;
  const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  return `${boot}/${readlinkSync("/proc/self/ns/pid")}`;
}
