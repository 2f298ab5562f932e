/** `millrace run` where the tables are shared: this process is one of those that share them. */
import { type ChildProcess, fork } from "node:child_process";
import { systemClock } from "../../core/clock.ts";
import { divisionText } from "../../core/sharing/share.ts";
import { expectDivision, expectOwnDivision } from "../../sharing/divided-before.ts";
import { keepShareRunning } from "../../sharing/share-process.ts";
import { supervise } from "../../sharing/supervisor.ts";
import type { Session } from "../session.ts";

/** Throws if the tables were divided in another way before. `number`: of the share that another process has started here. */
export async function expectSameDivision(session: Session, number: number | null = null): Promise<void> {
  const { name, state, shares, source } = await session.whole();
  if (source.connector.group === undefined) return;
  const divided = { name, state, division: shares === null ? null : divisionText(shares.division) };
  await (number === null ? expectDivision(divided) : expectOwnDivision(divided, number));
}

/** Until aborted. */
export async function runShares(session: Session, signal: AbortSignal): Promise<void> {
  const { shares, source } = await session.whole();
  if (shares === null || source.connector.group === undefined) return;
  await expectSameDivision(session);
  const group = await source.connector.group(shares.division);
  const { log: logger } = session;
  const keepRunning = async (number: number, until: AbortSignal): Promise<void> =>
    await keepShareRunning({ clock: systemClock, logger, number, start: () => startShare(session, number) }, until);
  logger.info({ name: shares.name, shares: shares.division.count }, "millrace shares tables with others of this name");
  await supervise({ group, keepRunning, logger }, signal);
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
