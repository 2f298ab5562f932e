import type { Finding } from "../../../src/core/contracts/connector.ts";

export interface ListFilter {
  readonly is: (key: string) => boolean;
  readonly countMax: number;
}

/**
 * What the sink needs of the place that holds its files: a folder, or a prefix in a bucket. Keys are paths with slashes
 * below it. Each call is atomic: a reader finds an object whole, or not at all.
 */
export interface Store extends AsyncDisposable {
  /** Shown to people: without logins. */
  readonly location: string;
  /** Files and folders of this machine that it fills. */
  readonly paths: readonly string[];
  /** In the order of their keys. `after`: only those behind this key. */
  list(under: string, signal: AbortSignal, after?: string): Promise<readonly string[]>;
  /** The first keys in all folders below `under` that are wanted, in their order. */
  find(under: string, wanted: ListFilter, signal: AbortSignal): Promise<readonly string[]>;
  /** Null: there is none. */
  read(key: string, signal: AbortSignal): Promise<Buffer | null>;
  has(key: string, signal: AbortSignal): Promise<boolean>;
  /** False: there is one of this key already, which stays as it is. */
  create(key: string, pieces: readonly Buffer[], signal: AbortSignal): Promise<boolean>;
  /** Puts the object in the place of one that is there. The file may be moved away. */
  put(key: string, file: string, signal: AbortSignal): Promise<void>;
  remove(key: string, signal: AbortSignal): Promise<void>;
  /** Throws if the place takes no file with this extension below this folder. Leaves nothing there. */
  probe(folder: string, extension: string, signal: AbortSignal): Promise<void>;
  /** A folder of this machine for files that become objects. */
  scratch(): Promise<string>;
  /** After the sink was taken over: removes what a killed process left half done, and tests that `create` refuses a taken key. */
  settle(signal: AbortSignal): Promise<void>;
  /** What the store does by itself to what lies there; changes nothing. */
  rules(signal: AbortSignal): Promise<readonly Finding[]>;
}
