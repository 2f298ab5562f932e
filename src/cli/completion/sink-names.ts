import { resolve } from "node:path";
import { YamlFile } from "../../config/document.ts";
import { SINK_NAME } from "../../config/definition.ts";
import { readSmallFile } from "../../core/small-file.ts";

const FILE_BYTES_MAX = 1024 * 1024;

/** The sinks of the config file; none if it can't be read, because completion should not print errors. */
export function sinkNames(configFile: string): readonly string[] {
  try {
    const config = new YamlFile(readSmallFile(resolve(configFile), FILE_BYTES_MAX)).value();
    if (typeof config !== "object" || config === null || !("sinks" in config)) return [];
    return Object.keys(config.sinks ?? {}).filter((name) => SINK_NAME.test(name));
  } catch {
    return [];
  }
}
