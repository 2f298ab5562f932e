/** What the receiver of `notify.webhook` is told of a process, over all that it runs and waits for. */
import type { Config } from "../config/config.ts";
import { systemClock } from "../core/clock.ts";
import type { NoticeStore } from "../core/conditions/condition.ts";
import type { Logger } from "../core/contracts/telemetry.ts";
import { Notifier, ToldConditions } from "../ops/notifier.ts";
import { webhook } from "../ops/webhook.ts";

interface Notified {
  /** Null: the process has no state yet. */
  readonly notices: NoticeStore | null;
  readonly redact: (json: string) => string;
  readonly logger: Logger;
}

/** By configuration: a daemon that waited begins again with the same. */
const toldOf = new WeakMap<Config, ToldConditions>();

/** Null: nobody is to be told. */
export function notifierOf(config: Config, { notices, redact, logger }: Notified): Notifier | null {
  const { name, notify } = config;
  if (notify === null) return null;
  const { webhook: url, tls, key, level, afterMs } = notify;
  const send = webhook({ url, tls, key, redact });
  const told = toldOf.get(config) ?? new ToldConditions();
  toldOf.set(config, told);
  return new Notifier({ clock: systemClock, name, level, afterMs, notices, told, send, logger });
}
