import { writeFileSync } from "node:fs";
import { temporaryFolder } from "../run/temporary-folder.ts";

/** Moves the dates of the processes that get its `environment`, also while they run. */
export class SetClock implements Disposable {
  readonly #folder = temporaryFolder();
  readonly #path = this.#folder.file("clock");
  readonly environment: Readonly<Record<string, string>>;

  constructor(aheadMs = 0) {
    const code = `import { readFileSync } from "node:fs";
      const Real = Date;
      const now = () => Real.now() + Number(readFileSync(${JSON.stringify(this.#path)}, "utf8"));
      globalThis.Date = class Date extends Real {
        constructor(...given) { super(...(given.length === 0 ? [now()] : given)); }
        static now() { return now(); }
      };`;
    this.environment = {
      NODE_OPTIONS: `--import data:text/javascript;base64,${Buffer.from(code).toString("base64")}`,
    };
    this.set(aheadMs);
  }

  set(aheadMs: number): void {
    writeFileSync(this.#path, String(aheadMs));
  }

  [Symbol.dispose](): void {
    this.#folder[Symbol.dispose]();
  }
}
