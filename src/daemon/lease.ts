/**
 * The daemon's work around a run: it holds the lease, forgets sinks that were removed, and starts again when the source has
 * changed to another one.
 */
import type { Clock } from "../core/clock.ts";
import type { Acquired, StateStore } from "../core/contracts/state-store.ts";
import type { Logger } from "../core/contracts/telemetry.ts";
import { findMillraceError } from "../core/errors.ts";
import { leaseHeld, leaseLost } from "../state/errors.ts";
import { readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";

export const LEASE_MS = 15_000;
export const LEASE_RENEWAL_MS = 4_000;
/** How often to look whether the lease is free. */
const LEASE_LOOK_MS = 500;
const MOVED_PAUSE_MS = 250;

interface LeaseParts {
  readonly state: Pick<StateStore, "lease">;
  readonly clock: Clock;
  /** The holder's name, for people. */
  readonly holder: string;
  /** Whether a holder certainly runs no more. */
  readonly isGone: (holder: string) => boolean;
}

export async function takeLease({ state, holder, isGone }: Omit<LeaseParts, "clock">): Promise<Acquired> {
  const acquired = await state.lease.acquire(holder, LEASE_MS, isGone);
  if (!acquired.taken) throw leaseHeld(acquired.lease);
  return acquired;
}

/** The same, but waits for a holder that gives it back, or is gone. */
export async function awaitLease(parts: LeaseParts, logger: Logger, signal: AbortSignal): Promise<Acquired> {
  for (let isTold = false; ; isTold = true) {
    const acquired = await parts.state.lease.acquire(parts.holder, LEASE_MS, parts.isGone);
    const { taken, lease } = acquired;
    if (taken) return acquired;
    if (!isTold)
      logger.info({ holder: lease.holder }, "another process has the lease; this one takes over when it ends");
    await parts.clock.sleep(LEASE_LOOK_MS, signal);
  }
}

/** Runs until aborted; throws when another daemon has the lease. */
export async function keepLease(
  { state, clock }: Pick<LeaseParts, "state" | "clock">,
  lease: number,
  signal: AbortSignal,
): Promise<never> {
  for (;;) {
    await clock.sleep(LEASE_RENEWAL_MS, signal);
    if (!(await state.lease.renew(lease, LEASE_MS))) throw leaseLost();
  }
}

/**
 * A lease that can't be given back expires by itself, and must not hide why this process ends. `tellsDeath`: the next holder
 * too learns that a daemon died before this one.
 */
export async function releaseLease(
  state: Pick<StateStore, "lease">,
  lease: number,
  logger: Logger,
  tellsDeath = false,
): Promise<void> {
  try {
    await (tellsDeath ? state.lease.renew(lease, 0) : state.lease.release(lease));
  } catch (error) {
    logger.warn({ error }, "the lease could not be given back");
  }
}

/** A sink that was removed from the configuration holds nothing back any more; if it returns, it is filled like a new one. */
export async function forgetRemovedSinks(
  { sinks }: Pick<StateStore, "sinks">,
  configured: readonly string[],
): Promise<void> {
  for (const { name } of await sinks.all()) if (!configured.includes(name)) await sinks.remove(name);
}

/** If the source has become another one, everything starts again; the start checks whether the sinks can continue there. */
export async function throughMoves<T>(
  { clock, logger }: { readonly clock: Clock; readonly logger: Logger },
  run: () => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  for (;;) {
    try {
      return await run();
    } catch (error) {
      const known = findMillraceError(error);
      if (known?.reason !== "moved") throw error;
      const { code, kind, message } = known;
      if (kind === "reopen") logger.info({}, `${message}; Millrace begins again with them`);
      else logger.warn({ code, error: known }, `${message}; checking whether the sinks can continue there`);
      await clock.sleep(MOVED_PAUSE_MS, signal);
    }
  }
}

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
