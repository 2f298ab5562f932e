/** The process of one share, as its supervisor sees it: a channel, signals, an end. */
import { EventEmitter } from "node:events";
import { scopeOf } from "../../../src/core/clock.ts";
import type { ShareChild } from "../../../src/sharing/supervisor.ts";
import { type Supervisable, underSupervisor } from "../../../src/sharing/supervised.ts";
import { Daemon, type Site } from "../daemon.ts";
import type { SimulatedProcess } from "../scheduler.ts";

interface ChildParts {
  readonly supervisor: SimulatedProcess;
  readonly process: SimulatedProcess;
  readonly site: Site;
  readonly onEnd: (daemon: Daemon) => void;
}

export class SimulatedChild extends EventEmitter implements ShareChild {
  readonly pid: number;
  exitCode: number | null = null;
  signalCode: NodeJS.Signals | null = null;
  readonly process: SimulatedProcess;
  readonly daemon: Daemon;
  readonly #heard = new EventEmitter();
  readonly #stopping = scopeOf();

  constructor({ supervisor, process, site, onEnd }: ChildParts) {
    super();
    this.process = process;
    this.pid = Number(process.name.slice(1));
    const tell = (event: string, ...parts: readonly unknown[]): void => {
      supervisor.after(supervisor.scheduler.random.next(), () => void this.emit(event, ...parts));
    };
    const channel: Supervisable = {
      send: (message) => tell("message", message),
      on: (event, heard) => this.#heard.on(event, heard),
      off: (event, heard) => this.#heard.off(event, heard),
      once: (event, work) => this.#heard.once(event, work),
    };
    supervisor.onDeath(() => void process.after(1, () => void this.#heard.emit("disconnect")));
    process.onDeath(() => {
      if (this.exitCode === null) this.signalCode ??= "SIGKILL";
      tell("exit", this.exitCode, this.signalCode);
    });
    const { clock } = process;
    const parts = { process: channel, clock, logger: site.loggerOf(process) };
    const supervised = underSupervisor(parts, this.#stopping.signal)!;
    this.daemon = new Daemon(process, site);
    supervised.signal.addEventListener("abort", () => this.daemon.stop(), { once: true });
    void this.daemon.ended.then(() => {
      if (!process.isAlive) return;
      this.exitCode = this.daemon.error === null ? 0 : 1;
      onEnd(this.daemon);
      process.kill();
    });
  }

  kill(signal: "SIGTERM" | "SIGKILL"): void {
    if (signal === "SIGKILL") this.process.scheduler.after(1, () => this.process.kill());
    else this.process.after(1, () => this.#stopping.end());
  }

  send(message: string, sent: () => void): void {
    this.process.after(this.process.scheduler.random.next(), () => void this.#heard.emit("message", message));
    sent();
  }
}
