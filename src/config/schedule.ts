import { Cron } from "croner";

/** Five fields, six with seconds first, or a name such as @daily. A plain date is excluded: it would run only once. */
const FORM = /^(@[a-z]+|\S+( +\S+){4,5})$/i;

export function scheduleProblem(text: string): string | null {
  if (!FORM.test(text)) return 'expected five fields of cron, such as "0 2 * * *" for every night at two';
  try {
    const cron = new Cron(text, { paused: true, mode: "5-or-6-parts" });
    return cron.nextRun() === null ? "this time never comes" : null;
  } catch (error) {
    const reason = error instanceof Error ? error.message.replace(/^CronPattern: /, "") : String(error);
    return `this is no time of cron: ${reason}`;
  }
}

export function isTimeZone(text: string): boolean {
  try {
    return new Intl.DateTimeFormat("en", { timeZone: text }).resolvedOptions().timeZone !== "";
  } catch {
    return false;
  }
}
