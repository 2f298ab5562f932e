/** Messages between a guard and the process that started it, as JSON text. */
export interface ProcessSpec {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly logPath: string;
  readonly user: { readonly uid: number; readonly gid: number } | undefined;
}

export interface StopStep {
  readonly signal: NodeJS.Signals;
  readonly waitMs: number;
}

/** The guard's only argument, so that it is complete from the start. */
export interface GuardSetup {
  /** How to stop a server whose data is deleted next: it need not write its data out. */
  readonly endSteps: readonly StopStep[];
  readonly removeDirs: readonly string[];
}

export type GuardRequest =
  | { readonly kind: "start"; readonly spec: ProcessSpec }
  | { readonly kind: "stop"; readonly steps: readonly StopStep[] }
  | { readonly kind: "kill" }
  | { readonly kind: "signal"; readonly signal: NodeJS.Signals }
  | { readonly kind: "end" };

export type GuardReply =
  | { readonly kind: "done"; readonly pid: number | undefined }
  | { readonly kind: "failed"; readonly message: string }
  | { readonly kind: "exited"; readonly code: number | null; readonly signal: NodeJS.Signals | null }
  | { readonly kind: "ended" };
