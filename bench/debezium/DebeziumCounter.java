import com.sun.management.OperatingSystemMXBean;
import io.debezium.embedded.Connect;
import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.connect.source.SourceRecord;

/** Counts the records of Debezium's engine, and does nothing else with them: ROWS SECONDS_MAX key=value… */
public final class DebeziumCounter {
    private static final CountDownLatch done = new CountDownLatch(1);
    private static final AtomicReference<String> failure = new AtomicReference<>();
    private static volatile long rowCount;
    private static volatile long firstNs;
    private static volatile long lastNs;
    private static volatile long cpuBeforeNs;
    private static volatile long cpuNs;

    public static void main(String[] args) throws Exception {
        long rowsWanted = Long.parseLong(args[0]);
        long secondsMax = Long.parseLong(args[1]);
        Properties properties = new Properties();
        for (int i = 2; i < args.length; i++) {
            int equals = args[i].indexOf('=');
            properties.setProperty(args[i].substring(0, equals), args[i].substring(equals + 1));
        }
        DebeziumEngine<ChangeEvent<SourceRecord, SourceRecord>> engine = DebeziumEngine.create(Connect.class)
            .using(properties)
            .notifying((records, committer) -> {
                if (firstNs == 0) {
                    firstNs = System.nanoTime();
                    cpuBeforeNs = processCpuNs();
                }
                for (ChangeEvent<SourceRecord, SourceRecord> record : records) committer.markProcessed(record);
                committer.markBatchFinished();
                rowCount += records.size();
                if (rowCount < rowsWanted || lastNs != 0) return;
                cpuNs = processCpuNs() - cpuBeforeNs;
                lastNs = System.nanoTime();
                done.countDown();
            })
            .using((isSuccess, message, error) -> {
                if (!isSuccess) failure.set(message);
                done.countDown();
            })
            .build();
        ExecutorService runner = Executors.newSingleThreadExecutor();
        runner.execute(engine);
        boolean isInTime = done.await(secondsMax, TimeUnit.SECONDS);
        if (lastNs == 0) {
            String reason = failure.get();
            System.err.println(reason != null ? reason : isInTime ? "the engine ended early" : rowCount + " rows in " + secondsMax + " s");
            Runtime.getRuntime().halt(1);
        }
        System.out.printf(Locale.ROOT, "{\"rows\":%d,\"seconds\":%.4f,\"cpuSeconds\":%.3f,\"memoryMiB\":%.1f}%n",
            rowCount, (lastNs - firstNs) / 1e9, cpuNs / 1e9, memoryMiB());
        System.out.flush();
        // In order only where what it knows by then is to be found again.
        if (Boolean.getBoolean("counter.close")) engine.close();
        Runtime.getRuntime().halt(0);
    }

    private static long processCpuNs() {
        return ((OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    }

    private static double memoryMiB() throws Exception {
        for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
            if (line.startsWith("VmHWM")) return Long.parseLong(line.replaceAll("\\D", "")) / 1024.0;
        }
        return Double.NaN;
    }
}
