package ident

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"fernamt/core/store"
)

const accountColumns = `id, rev, address, login, name, aliases, numbers, home, disabled,
	max_bindings, history, rights, forwarding, password, created`

// load reads the accounts that where (and what follows it) selects, with their credentials.
func load(tx *store.Tx, where string, args ...any) ([]*Account, error) {
	rows, err := tx.Query("select "+accountColumns+" from account "+where, args...)
	if err != nil {
		return nil, err
	}
	var list []*Account
	byID := map[int64]*Account{}
	for rows.Next() {
		a, err := scanAccount(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, a)
		byID[a.ID] = a
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if err := rows.Close(); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, nil
	}
	where = "where account in (select id from account " + where + ")"
	if err := loadCredentials(tx, byID, where, args); err != nil {
		return nil, err
	}
	return list, nil
}

func scanAccount(rows *store.Rows) (*Account, error) {
	a := &Account{}
	var aliases, numbers, rights, forwarding string
	var created int64
	err := rows.Scan(&a.ID, &a.Rev, &a.Address, &a.Login, &a.Name, &aliases, &numbers, &a.Home, &a.Disabled,
		&a.MaxBindings, &a.History, &rights, &forwarding, &a.password, &created)
	if err != nil {
		return nil, err
	}
	a.Created = time.Unix(0, created)
	if a.Login == a.Address {
		a.Login = a.Address // one string in memory, not two
	}
	if err := unpack(aliases, &a.Aliases); err != nil {
		return nil, err
	}
	if err := unpack(numbers, &a.Numbers); err != nil {
		return nil, err
	}
	if err := unpack(rights, &a.Rights); err != nil {
		return nil, err
	}
	return a, unpack(forwarding, &a.Forwarding)
}

func unpack(text string, into any) error {
	if text == "[]" || text == "{}" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		return fmt.Errorf("account column: %w", err)
	}
	return nil
}

func pack(v any) string {
	b, err := json.Marshal(v)
	if err != nil || string(b) == "null" {
		return "[]"
	}
	return string(b)
}

// loadCredentials fills in the credentials of the accounts in byID.
func loadCredentials(tx *store.Tx, byID map[int64]*Account, where string, args []any) error {
	rows, err := tx.Query("select id, account, kind, name, hashes, nt, created, used from credential "+where+" order by id", args...)
	if err != nil {
		return err
	}
	for rows.Next() {
		var c Credential
		var account, created, used int64
		var hashes, nt []byte
		if err := rows.Scan(&c.ID, &account, &c.Kind, &c.Name, &hashes, &nt, &created, &used); err != nil {
			return err
		}
		c.Created = time.Unix(0, created)
		if used > 0 {
			c.Used = time.Unix(0, used)
		}
		if len(nt) == 16 {
			c.NT = (*[16]byte)(nt)
		}
		c.Initial = c.Kind == Initial
		if a := byID[account]; a != nil {
			a.addHashes(c, hashes)
		}
	}
	return rows.Err()
}

// A password's hashes are stored as one blob: for each form of the user name its number,
// HA1 with MD5 and HA1 with SHA-256.
const (
	formUser = iota
	formAddress
	formLogin
	hashSize = 1 + 16 + 32
)

func (a *Account) addHashes(c Credential, blob []byte) {
	for ; len(blob) >= hashSize; blob = blob[hashSize:] {
		switch blob[0] {
		case formUser:
			c.User = a.User()
		case formAddress:
			c.User = a.Address
		case formLogin:
			c.User = a.Login
		default:
			continue
		}
		copy(c.MD5[:], blob[1:])
		copy(c.SHA256[:], blob[17:])
		if a.Credentials == nil {
			a.Credentials = make([]Credential, 0, len(blob)/hashSize)
		}
		a.Credentials = append(a.Credentials, c)
	}
}

// hashes packs the entries of one password.
func (a *Account) hashes(list []Credential) []byte {
	var blob []byte
	for _, c := range list {
		form := byte(formLogin)
		switch c.User {
		case a.User():
			form = formUser
		case a.Address:
			form = formAddress
		}
		blob = append(blob, form)
		blob = append(blob, c.MD5[:]...)
		blob = append(blob, c.SHA256[:]...)
	}
	return blob
}

func accountRow(a *Account) []any {
	return []any{a.ID, a.Rev, a.Address, a.Login, a.Name, pack(a.Aliases), pack(a.Numbers), a.Home, a.Disabled,
		a.MaxBindings, int64(a.History), pack(a.Rights), pack(a.Forwarding), a.password, a.Created.UnixNano(), store.Now()}
}

var accountInsert = append(strings.Fields(strings.ReplaceAll(accountColumns, ",", " ")), "changed")

// keys lists what must be unique about an account.
func (a *Account) keys() (names, numbers []string) {
	names = append(names, a.Address)
	names = append(names, a.Aliases...)
	if !a.Is([]byte(a.Login)) {
		names = append(names, a.Login)
	}
	return names, a.Numbers
}

func keyRows(a *Account) [][]any {
	names, numbers := a.keys()
	rows := make([][]any, 0, len(names)+len(numbers))
	for _, n := range names {
		rows = append(rows, []any{"name", n, a.ID})
	}
	for _, n := range numbers {
		rows = append(rows, []any{"number", n, a.ID})
	}
	return rows
}

var (
	keyColumns        = []string{"kind", "value", "account"}
	credentialColumns = []string{"id", "account", "kind", "name", "hashes", "nt", "created", "used"}
)

func (a *Account) credentialRow(list []Credential) []any {
	c := list[0]
	var nt any
	if c.NT != nil {
		nt = c.NT[:]
	}
	return []any{c.ID, a.ID, int64(c.Kind), c.Name, a.hashes(list), nt, c.Created.UnixNano(), int64(0)}
}

// update stores the account's row as it is now; keys says that its names may have changed.
func update(tx *store.Tx, a *Account, keys bool) error {
	row := accountRow(a)
	set := strings.Join(accountInsert[1:], " = ?, ") + " = ?"
	if _, err := tx.Exec("update account set "+set+" where id = ?", append(row[1:], a.ID)...); err != nil {
		return err
	}
	if !keys {
		return nil
	}
	if _, err := tx.Exec("delete from account_key where account = ?", a.ID); err != nil {
		return err
	}
	return tx.Insert("account_key", keyColumns, keyRows(a))
}
