// SQLite as a guest:  sqlite DATABASE
//
// Makes a database in a file, fills and changes it in transactions, looks through an index and a recursive query, rolls
// back, vacuums, and lets SQLite check what it made. Says each result; fails on the first error.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sqlite3.h"

static void die(sqlite3 *db, const char *what) {
    fprintf(stderr, "sqlite: %s: %s\n", what, db ? sqlite3_errmsg(db) : "out of memory");
    exit(1);
}

static int row(void *unused, int columns, char **values, char **names) {
    (void)unused, (void)names;
    for (int i = 0; i < columns; i++) printf("%s%s", i ? "|" : "", values[i] ? values[i] : "null");
    puts("");
    return 0;
}

static void say(sqlite3 *db, const char *sql) {
    if (sqlite3_exec(db, sql, row, NULL, NULL) != SQLITE_OK) die(db, sql);
}

static void insert(sqlite3 *db, int rows) {
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(db, "insert into item (name, price) values (?, ?)", -1, &statement, NULL)) die(db, "insert");
    for (int i = 0; i < rows; i++) {
        char name[32];
        snprintf(name, sizeof name, "item %05d", i);
        sqlite3_bind_text(statement, 1, name, -1, SQLITE_TRANSIENT);
        sqlite3_bind_int(statement, 2, i * 7919 % 1000);
        if (sqlite3_step(statement) != SQLITE_DONE) die(db, "step");
        sqlite3_reset(statement);
    }
    sqlite3_finalize(statement);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fputs("usage: sqlite DATABASE\n", stderr);
        return 2;
    }
    sqlite3 *db = NULL;
    // WASI has no file locks, so none are asked for.
    if (sqlite3_open_v2(argv[1], &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "unix-none")) die(db, argv[1]);
    say(db, "create table item (id integer primary key, name text not null, price integer not null)");
    say(db, "begin");
    insert(db, 20000);
    say(db, "create index by_price on item (price)");
    say(db, "commit");
    say(db, "select count(*), sum(price), min(name), max(name) from item");
    say(db, "select group_concat(id) from (select id from item where price = 500 order by id limit 5)");
    say(db, "begin; delete from item; rollback");
    say(db, "update item set price = price + 1 where id % 2 = 0; select changes()");
    say(db, "delete from item where price > 500; vacuum; select count(*) from item");
    say(db, "with recursive f(n, a, b) as (values (1, 0, 1) union all select n + 1, b, a + b from f where n < 60) "
            "select max(a) from f");
    say(db, "select json_group_array(name) from (select name from item order by id limit 2)");
    say(db, "pragma integrity_check");
    if (sqlite3_close(db) != SQLITE_OK) die(db, "close");
    return 0;
}
