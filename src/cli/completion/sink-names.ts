import { resolve } from "node:path";
import { YamlFile } from "../../config/document.ts";
import { SINK_NAME } from "../../config/definition.ts";
import { readSmallFile } from "../../core/small-file.ts";

const FILE_BYTES_MAX = 1024 * 1024;

/** As the config file has them; none where it can't be read: nobody wants to see an error while typing. */
export function sinkNames(configFile: string): readonly string[] {
  try {
    const config = new YamlFile(readSmallFile(resolve(configFile), FILE_BYTES_MAX)).value();
    if (typeof config !== "object" || config === null || !("sinks" in config)) return [];
    return Object.keys(config.sinks ?? {}).filter((name) => SINK_NAME.test(name));
  } catch {
    return [];
  }
}
