/** What lies between a process and the servers that it talks to: time passes, answers get lost, connections break. */
import type { WeatherKind } from "./happenings.ts";
import { MillraceError } from "../../src/core/errors.ts";
import { never, type SimulatedProcess } from "./scheduler.ts";

/** How calls to one server go at the moment. */
export interface Weather {
  /** The server does not answer anybody. */
  isDown: boolean;
  /** Of 1: a call that fails before it had any effect. */
  failures: number;
  /** Of 1: a call whose effect is there and whose answer is lost. */
  lostAnswers: number;
  /** Of 1: a call that nobody answers until the client gives up. */
  hanging: number;
  /** Of 1: a request of a sink that stores rows first, which arrives when nobody waits for it any more. */
  late: number;
  /** The longest time that a call takes. */
  slowestMs: number;
}

/** `slowestMs`: on a good day. */
export function fairWeather(slowestMs: number): Weather {
  return { isDown: false, failures: 0, lostAnswers: 0, hanging: 0, late: 0, slowestMs };
}

export function worsen(weather: Weather, kind: WeatherKind): void {
  switch (kind) {
    case "failures":
      weather.failures = 0.3;
      return;
    case "lost answers":
      weather.lostAnswers = 0.3;
      return;
    case "hanging":
      weather.hanging = 0.1;
      return;
    case "late":
      weather.late = 0.4;
      return;
    case "down":
      weather.isDown = true;
      return;
    case "slow":
      weather.slowestMs = 300;
      return;
    case "crawling":
      weather.slowestMs = 8_000;
      return;
    default:
      kind satisfies never;
  }
}

/** When a client takes a connection for broken. */
export const SILENCE_MS = 5_000;

function away(what: string): MillraceError {
  return new MillraceError({ code: "MR3999", kind: "retryable", message: `${what}: the connection broke` });
}

/** Of a request that its sender gave up. */
const LATE_MS_MAX = 4_000;

export class Connection {
  readonly #process: SimulatedProcess;
  readonly #weather: Weather;
  readonly #name: string;

  constructor(process: SimulatedProcess, weather: Weather, name: string) {
    this.#process = process;
    this.#weather = weather;
    this.#name = name;
  }

  /** Throws if the request is given up: `effect` then waits among the late ones, whatever becomes of its sender. */
  giveUp(what: string, effect: () => void, late: Set<() => void>): void {
    const { scheduler } = this.#process;
    if (this.#weather.late === 0 || !scheduler.random.chance(this.#weather.late)) return;
    late.add(effect);
    scheduler.after(scheduler.random.next() * LATE_MS_MAX, () => void (late.delete(effect) && effect()));
    throw away(`${this.#name} ${what} is given up`);
  }

  /** `effect` happens at the server, at one moment. What it throws is the server's answer. */
  async call<T>(what: string, effect: () => T, signal?: AbortSignal): Promise<T> {
    if (!this.#process.passes()) return await never();
    const { scheduler } = this.#process;
    const { random } = scheduler;
    const { failures, hanging, isDown, lostAnswers, slowestMs } = this.#weather;
    const chance = failures + hanging + lostAnswers > 0 ? random.next() : 1;
    await this.#process.sleep(random.next() * slowestMs, signal);
    if (isDown || chance < failures) throw away(`${this.#name} ${what}`);
    if (chance < failures + hanging) {
      await this.#process.sleep(SILENCE_MS, signal);
      throw away(`${this.#name} ${what}`);
    }
    const answer = effect();
    if (!this.#process.passes()) return await never();
    if (chance < failures + hanging + lostAnswers) throw away(`${this.#name} ${what} was done, the answer is lost`);
    return answer;
  }
}
