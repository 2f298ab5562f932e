import type { Lease } from "../core/contracts/state-store.ts";
import { type ErrorPages, type MillraceError, raising } from "../core/errors.ts";

export const pages: ErrorPages = {
  MR1201: {
    title: "The state's URL can't be used",
    remedy:
      "Write `state: sqlite:PATH` or `state: postgres://user:password@host:port/database` with parameters as for psql, or leave the key out: the default is `.millrace/<name>.db` beside the config file. Behind a pooler use `pool_mode = session`.",
    cause:
      "`state` names a store or parameter that Millrace does not know, a PEM file that can't be used, or a pooler that gives one session to several clients.",
  },
  MR1202: {
    title: "The state file can't be opened",
    remedy:
      "Check that the folder exists or can be created, that the file belongs to the user who runs Millrace, and that the file system is not read-only. Network file systems without proper locks are not supported.",
    cause:
      "The file or its folder can't be created, read or written. Without its state Millrace can't prove that nothing was lost, so it does not start.",
  },
  MR1203: {
    title: "There is no state yet",
    remedy:
      "Start `millrace run`, or check that `name` and `state` in millrace.yaml (or `-c`) are those of the daemon.",
    cause: "A command asked for what the daemon remembers, but the daemon never ran with this config.",
  },
  MR1204: {
    title: "The state is damaged, or is none of Millrace's",
    remedy:
      "Restore it from a backup: sinks store their own checkpoints, so an older copy is fine as long as the source keeps the log from that time. Without one move the file away: the next start begins with a first copy. If another program wrote it, name another path in `state`.",
    cause:
      "The file is corrupt or another program's, or rows to be loaded have an unknown form. Nothing is read from it: a wrong position would be a silent gap.",
  },
  MR1206: {
    title: "The state is of another version",
    remedy: "Run the version that wrote it, or a newer one.",
    cause: "The state has migrations that this version does not know and might misread.",
  },
  MR1209: {
    title: "The state can't be written",
    remedy:
      "Make room on the disk that the message names, or look at the system's log for errors of it; close the backup program or shell that locks the file. The daemon continues by itself. Another error of SQLite: start again, and report it with its number.",
    cause:
      "The disk is full or fails, or another process locks the file. A running daemon retries until it succeeds; meanwhile it acknowledges nothing to the source.",
    seen: "state",
  },
  MR1210: {
    title: "The lease was taken over by another daemon",
    remedy: "Nothing, if the other daemon is the right one. Else stop it and start this one again.",
    cause:
      "This process stalled for longer than its lease, and another daemon of the same name took over. Everything it would have written is refused, and it stops.",
  },
  MR1211: {
    title: "The state belongs to another name",
    remedy: "Give each name its own file in `state`, or leave the key out.",
    cause:
      "The state file was created by a config with another `name`. A shared state would mix the positions of two sources.",
  },
  MR1213: {
    title: "Another daemon of this name is running",
    remedy: "Use the running daemon, or stop it first. If its holder is gone, a lease expires within 15 seconds.",
    cause: "One daemon at a time works on a source. The message names the one that holds the lease.",
  },
  MR1215: {
    title: "The state's Postgres server can't be reached, or can't work now",
    remedy:
      "Bring the server back, make room on its disk, or correct the URL and start the daemon again. Nothing is lost: it continues from the state and the sinks.",
    cause:
      "The server does not answer, or lacks what it needs: room on its disk, a free connection. A running daemon retries while its lease lasts (15 seconds); then it stops its work, because another may take over, and waits. Nothing is acknowledged to the source meanwhile.",
    seen: "state",
  },
  MR1216: {
    title: "The state's Postgres server refuses",
    remedy:
      "Correct login or TLS (`sslmode`, `sslrootcert`, `sslcert`, `sslkey` as for psql). The role needs CREATE on the database for the first start, or a schema `millrace` that it owns: `CREATE SCHEMA millrace AUTHORIZATION ROLE`.",
    cause:
      "The login was refused, the database does not exist, a grant is missing, or TLS failed. The message quotes the server. The daemon tries again until it is taken.",
    seen: "state",
  },
  MR1217: {
    title: "The state is another one than the daemon wrote",
    remedy:
      "Nothing: the daemon begins again with what is there, and compares the tables that may have lost something. If it happens often to a server, let it replicate its commits synchronously. To move, restore or remove a state file, stop the daemon first.",
    cause:
      "The state's Postgres server went back to an earlier moment (a failover to a standby that lacked the last commits, a backup), or a command wrote there while the daemon stood still for longer than its lease. Or the state file was removed or replaced while the daemon ran: of one that was removed, the daemon has put back what it held.",
  },
};

/** Another daemon with this name runs, so this one must not start. */
export function leaseHeld({ holder, leftMs }: Lease): MillraceError {
  const seconds = Math.ceil(leftMs / 1000);
  return stateError("MR1213", `another daemon holds the lease: ${holder} (for ${seconds} s, unless it renews it)`, {
    reason: "held",
  });
}

/** Another daemon runs in place of this one. */
export const LEASE_LOST = "MR1210";

export function leaseLost(): MillraceError {
  return stateError(LEASE_LOST, "the lease was taken over by another daemon; this one stops");
}

/** What is there does not follow from what the holder of the lease wrote last. */
export const STATE_REPLACED = "MR1217";

export function otherThanWritten(): MillraceError {
  return stateError(STATE_REPLACED, "the state on its server is another one than this process wrote last");
}

export const stateError = raising(pages);
