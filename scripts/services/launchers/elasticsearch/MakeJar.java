import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.jar.JarOutputStream;
import java.util.zip.ZipEntry;

/** Packs classes into a jar, for a JRE has no `jar` program. Arguments: the jar, its folder of classes, their files. */
public final class MakeJar {
  public static void main(String[] arguments) throws Exception {
    Path folder = Path.of(arguments[1]);
    try (OutputStream file = Files.newOutputStream(Path.of(arguments[0])); JarOutputStream jar = new JarOutputStream(file)) {
      for (int index = 2; index < arguments.length; index += 1) {
        jar.putNextEntry(new ZipEntry(arguments[index]));
        Files.copy(folder.resolve(arguments[index]), jar);
        jar.closeEntry();
      }
    }
  }
}
