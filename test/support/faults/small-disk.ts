import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** A file system of this size; null: this user may not mount one. */
export class SmallDisk implements AsyncDisposable {
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async mount(size: string): Promise<SmallDisk | null> {
    const folder = await mkdtemp(join(tmpdir(), "millrace-disk-"));
    try {
      await run("mount", ["-t", "tmpfs", "-o", `size=${size}`, "tmpfs", folder]);
    } catch {
      await rm(folder, { recursive: true });
      return null;
    }
    return new SmallDisk(folder);
  }

  async grow(size: string): Promise<void> {
    await run("mount", ["-o", `remount,size=${size}`, this.folder]);
  }

  /** Nothing may have a file there open for writing. */
  async become(mode: "ro" | "rw"): Promise<void> {
    await run("mount", ["-o", `remount,${mode}`, this.folder]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run("umount", ["--lazy", this.folder]);
    await rm(this.folder, { recursive: true });
  }
}
