/** `millrace run` where the tables are shared: this process is one of those that share them. */
import { type ChildProcess, fork } from "node:child_process";
import { systemClock } from "../../core/clock.ts";
import { divisionText } from "../../core/sharing/share.ts";
import { expectDivision, expectOwnDivision } from "../../sharing/divided-before.ts";
import { keepShareRunning, supervise } from "../../sharing/supervisor.ts";
import type { Session } from "../session.ts";

/** Throws if the tables were divided in another way before. `number`: of the share that another process has started here. */
export async function expectSameDivision(session: Session, number: number | null = null): Promise<void> {
  const { name, state, shares, source } = await session.whole();
  if (source.connector.group === undefined) return;
  const divided = { name, state, division: shares === null ? null : divisionText(shares.division) };
  const { log } = session;
  await (number === null ? expectDivision(divided, log) : expectOwnDivision(divided, number, log));
}

/** Until aborted. What passes by itself does not end it: the state's server or the broker may be away when it starts. */
export async function runShares(session: Session, signal: AbortSignal): Promise<void> {
  const config = await session.whole();
  const { shares, source } = config;
  const { group: groupOf } = source.connector;
  if (shares === null || groupOf === undefined) return;
  const { log: logger } = session;
  const clock = systemClock;
  logger.info({ name: shares.name, shares: shares.division.count }, "millrace shares tables with others of this name");
  const run = async (serves: () => Promise<void>): Promise<void> => {
    await expectSameDivision(session);
    const group = await groupOf(shares.division);
    let served: Promise<void> | null = null;
    // The first share has the address at which the process says what it waits for.
    const joined = (): Promise<void> => (served ??= serves());
    const keepRunning = async (number: number, until: AbortSignal): Promise<void> => {
      await joined();
      await keepShareRunning({ clock, logger, number, start: () => startShare(session, number) }, until);
    };
    await supervise({ group, joined, keepRunning, logger }, signal);
  };
  const { untilHealed } = await import("../../daemon/until-healed.ts");
  await untilHealed({ config, clock, tellsEnds: true, ...session.daemon }, run, signal);
  logger.info({}, "millrace has stopped");
}

/** The same program on the same file, with a channel to this process. */
function startShare({ options }: Session, number: number): ChildProcess {
  const { configFile, logLevel, json } = options;
  const args = ["run", "--share", String(number), "--config", configFile, "--log-level", logLevel];
  return fork(process.argv[1] ?? "", [...args, ...(json ? ["--json"] : [])], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
}
