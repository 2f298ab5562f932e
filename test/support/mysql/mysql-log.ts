/** The binary log of a server from one place to its end: the events that a decoder is given. */
import { dumpLog, endOfLog, type LogPosition } from "../../../scripts/services/servers/mysql/mysql-dump.ts";

export { endOfLog };

/** Each event in a buffer of its own. */
export async function readLog(url: string, from: LogPosition): Promise<Buffer[]> {
  const events: Buffer[] = [];
  await dumpLog(url, from, (bytes, start, end) => events.push(Buffer.from(bytes.subarray(start, end))));
  return events;
}
