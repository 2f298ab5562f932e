/** What an import finds: keys without a counterpart, and the variables that stand in place of values. */

export interface LeftOut {
  readonly key: string;
  readonly why: string;
  /** True: nothing is lost without it. */
  readonly isNeedless: boolean;
  /** True: the config has a value that does not load in its place, until somebody decides. */
  readonly isBlocking: boolean;
}

/** An environment variable that stands in place of a value, and the key that had the value. */
export interface Variable {
  readonly name: string;
  readonly from: string;
}

export interface Imported<Config extends object> {
  readonly config: Config;
  readonly left: readonly LeftOut[];
  readonly variables: readonly Variable[];
}

/** In place of what must be decided: no value of any key that it is written for, and no key. */
export const UNDECIDED = "undecided";

export class Findings {
  readonly left: LeftOut[] = [];
  readonly variables: Variable[] = [];
  readonly #theirs = new Set<string>();

  /** Names a key whose value Millrace can't have, fully or at all. */
  leave(key: string, why: string): void {
    this.#add({ key, why, isNeedless: false, isBlocking: false });
  }

  /** Names a key that is not needed any more, and what is to know about it. */
  note(key: string, why: string): void {
    this.#add({ key, why, isNeedless: true, isBlocking: false });
  }

  /** Names a key without which more would be shown, or other tables taken: its place in the config does not load. */
  block(key: string, why: string): void {
    this.#add({ key, why, isNeedless: false, isBlocking: true });
  }

  /** A reference to an environment variable, which is to have the value of this key. `isTheirs`: the other tool has it too. */
  reference(variable: string, from: string, isTheirs = false): string {
    const known = this.variables.find(({ name }) => name === variable);
    const isSame = known?.from === from || (isTheirs && this.#theirs.has(variable));
    if (known !== undefined && !isSame) return this.reference(`${variable}_2`, from, isTheirs);
    if (known === undefined) this.variables.push({ name: variable, from });
    if (isTheirs) this.#theirs.add(variable);
    return `\${${variable}}`;
  }

  /** What two parts of a config have in common is said once. */
  #add(left: LeftOut): void {
    if (!this.left.some(({ key, why }) => key === left.key && why === left.why)) this.left.push(left);
  }
}
