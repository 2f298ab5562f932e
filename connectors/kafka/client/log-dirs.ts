/** How much room the disks of the brokers have. */
import { lowBytesOf, type Room } from "../../../src/core/disk-room.ts";
import type { Cluster } from "./cluster.ts";

interface LogDirsAnswer {
  readonly results: readonly {
    readonly errorCode: number;
    readonly logDir: string;
    /** Of its disk, -1: unknown. */
    readonly totalBytes: bigint;
    readonly usableBytes: bigint;
  }[];
}

/** The first version that tells the bytes, from Kafka 3.3 on. */
const WITH_BYTES = 4;

/** Empty if the brokers do not tell. Throws if this user may not ask. */
export async function logDirRooms(cluster: Cluster, signal: AbortSignal): Promise<readonly Room[]> {
  if ((await cluster.version("DescribeLogDirs", signal)) < WITH_BYTES) return [];
  const brokers = await cluster.brokers(signal);
  const rooms = brokers.map(async (broker) => {
    // Of no topic: only the folders themselves.
    const { results } = await cluster.request<LogDirsAnswer>("DescribeLogDirs", broker, signal, []);
    return results.flatMap(({ errorCode, logDir, totalBytes, usableBytes }): readonly Room[] => {
      if (errorCode !== 0 || totalBytes < 0n) return [];
      const lowBytes = lowBytesOf(Number(totalBytes));
      return [{ where: `${logDir} of broker ${broker}`, freeBytes: Number(usableBytes), lowBytes }];
    });
  });
  return (await Promise.all(rooms)).flat();
}
