/** Kafka's own client for Java, as a reader of committed records. */
import { fileURLToPath } from "node:url";
import { command } from "../../../scripts/services/processes/command.ts";
import { compileJava, provideCompiler } from "../../../scripts/services/packages/compile-java.ts";
import { findJava, provideJava } from "../../../scripts/services/packages/java.ts";
import { kafkaJars } from "../../../scripts/services/servers/kafka.ts";
import { printProgress } from "../../../scripts/services/packages/progress.ts";
import { versions } from "../../../scripts/services/versions.ts";
import { temporaryFolder } from "../run/temporary-folder.ts";

const SOURCE = fileURLToPath(new URL("../java/ReadCommitted.java", import.meta.url));

/** Partition, the one that Java's producer would choose, offset, key and value. */
export async function readByJava(broker: string, topic: string): Promise<readonly (readonly string[])[]> {
  using folder = temporaryFolder();
  const found = await findJava(versions.kafka.javaMajor);
  if (found.kind === "missing") throw new Error(found.reason);
  const java = await provideJava(found, printProgress);
  const lib = await kafkaJars();
  const classes = folder.path;
  await compileJava(java, await provideCompiler(printProgress), [SOURCE], { lib, classes });
  const classPath = `${classes}:${lib}/*`;
  const text = await command(java.command, [...java.args, "-cp", classPath, "ReadCommitted", broker, topic]);
  return text
    .trimEnd()
    .split("\n")
    .map((line) => line.split("\t"));
}
