import { readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";

/** Names this process to people and to other daemons: where it runs, as which process, since when. */
export function holderName(): string {
  return `${hostname()} pid ${process.pid} in ${pidSpace()} since ${new Date().toISOString()}`;
}

/** True when the holder was a process of this boot of this machine, and of this namespace, that no longer runs, or is this very process id. */
export function isGone(holder: string): boolean {
  const pid = localPid(holder);
  if (pid === null) return false;
  if (pid === process.pid) return true;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "ESRCH";
  }
}

/** The process id of a holder of this boot of this machine, and of this namespace; null of any other. */
export function localPid(holder: string): number | null {
  const match = /^(.*) pid (\d+) in (\S+) since /.exec(holder);
  if (match === null || match[1] !== hostname() || match[3] !== pidSpace()) return null;
  return Number(match[2]);
}

/**
 * Process ids mean something only inside one namespace of one kernel: containers may share a host name and a volume, and so
 * may hosts, whose first namespaces have one name.
 */
function pidSpace(): string {
  if (process.platform !== "linux") return process.platform;
  const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  return `${boot}/${readlinkSync("/proc/self/ns/pid")}`;
}
