/** What the receiver of `notify.webhook` is told of a process, over all that it runs and waits for. */
import { readFileSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import type { Config } from "../config/config.ts";
import { systemClock } from "../core/clock.ts";
import type { Condition, NoticeStore } from "../core/conditions/condition.ts";
import type { Logger } from "../core/contracts/telemetry.ts";
import { isRecord } from "../core/stored-json.ts";
import { makeFolder, writeWhole } from "../core/files.ts";
import { besideState } from "../ops/control-socket.ts";
import { Notifier, ToldConditions, type UnstoredPlace } from "../ops/notifier.ts";
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
  const told = toldOf.get(config) ?? new ToldConditions(unstoredOf(config, redact));
  toldOf.set(config, told);
  return new Notifier({ clock: systemClock, name, level, afterMs, notices, told, send, logger });
}

/** A file beside the state, or beside what stands for a state on a server. */
function unstoredOf(config: Config, redact: (json: string) => string): UnstoredPlace {
  const path = besideState(config.state.url, "told.json");
  return {
    read: () => {
      try {
        const told: unknown = JSON.parse(readFileSync(path, "utf8"));
        if (!isRecord(told) || !Array.isArray(told["conditions"])) return null;
        // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- written below, from conditions
        return { conditions: told["conditions"] as readonly Condition[], isWhole: told["isWhole"] === true };
      } catch {
        return null;
      }
    },
    write: (told) => {
      // Where there is no room, a killed process leaves what it could not store untold.
      try {
        if (told === null) return rmSync(path, { force: true });
        makeFolder(dirname(path), 0o700);
        writeWhole(path, redact(JSON.stringify(told)), 0o600);
      } catch {}
    },
  };
}
