package mail_test

import (
	"time"

	"github.com/twofold-auth/twofold/services/notifier/mail"
)

const base = "https://twofold.acme.example"

// samples holds one typed value of every kind, and the variants in which words
// differ. All names in it are the ones given.
func samples(agent, account, admin string) map[string]mail.Content {
	at := time.Date(2026, time.November, 23, 14, 5, 0, 0, time.UTC)
	week := at.Add(7 * 24 * time.Hour)
	return map[string]mail.Content{
		"enforcement": mail.EnforcementEnabled{
			AgentName: agent, AccountName: account, AdminName: admin,
			EnforceTime: at, SessionRevokeTime: week, SetUpURL: base + "/setup",
		},
		"enforcement earlier": mail.EnforcementEnabled{
			AgentName: agent, AccountName: account, AdminName: admin, EnforceTime: at,
			SessionRevokeTime: week, PreviousSessionRevokeTime: week.Add(72 * time.Hour), SetUpURL: base + "/setup",
		},
		"enforcement at once": mail.EnforcementEnabled{
			AgentName: agent, AccountName: account, AdminName: admin,
			EnforceTime: at, SessionRevokeTime: at, SetUpURL: base + "/setup",
		},
		"lifted": mail.EnforcementLifted{
			AgentName: agent, AccountName: account, AdminName: admin, LiftTime: at, ProfileURL: base + "/profile",
		},
		"reset": mail.MFAReset{
			AgentName: agent, AccountName: account, AdminName: admin, ResetTime: at,
			Reason: "Lost the phone on the train", Required: true, SignInURL: base + "/sign-in",
		},
		"reset optional": mail.MFAReset{
			AgentName: agent, AccountName: account, AdminName: admin, ResetTime: at, SignInURL: base + "/sign-in",
		},
		"added": mail.FactorAdded{
			AgentName: agent, AccountName: account, FactorName: "Authenticator app", AddTime: at, SecurityURL: base + "/security",
		},
		"removed": mail.FactorRemoved{
			AgentName: agent, AccountName: account, FactorName: "Authenticator app", RemoveTime: at, SecurityURL: base + "/security",
		},
		"recovery code": mail.RecoveryCodeUsed{
			AgentName: agent, AccountName: account, UseTime: at, CodesLeft: 7, SecurityURL: base + "/security",
		},
		"last recovery code": mail.RecoveryCodeUsed{
			AgentName: agent, AccountName: account, UseTime: at, CodesLeft: 0, SecurityURL: base + "/security",
		},
		"invitation": mail.Invitation{
			AgentName: agent, AccountName: account, AdminName: admin, ExpireTime: week, Required: true,
			AcceptURL: base + "/accept?token=YWJj&lang=en",
		},
		"password": mail.PasswordReset{
			AgentName: agent, AccountName: account, RequestTime: at, ExpireTime: at.Add(time.Hour),
			ResetURL: base + "/reset?token=YWJj&lang=en",
		},
		"password changed": mail.PasswordChanged{
			AgentName: agent, AccountName: account, ChangeTime: at, SecurityURL: base + "/security",
		},
		"password chosen": mail.PasswordChanged{
			AgentName: agent, AccountName: account, ChangeTime: at, First: true, SecurityURL: base + "/security",
		},
		"password forgotten": mail.PasswordChanged{
			AgentName: agent, AccountName: account, ChangeTime: at, ByLink: true, SecurityURL: base + "/security",
		},
		"address": mail.EmailChanged{
			AgentName: agent, AccountName: account, AdminName: admin, ChangeTime: at, NewAddress: "a***@e***.com",
			SignInURL: base + "/sign-in",
		},
	}
}

func envelope() mail.Envelope {
	return mail.Envelope{
		To: "ada@acme.example", NoticeID: "0193b2c4-7e1a-7000-8000-000000000001", EventID: "0193b2c4-7e1a-7000-8000-0000000000e1",
		Date: time.Date(2026, time.November, 23, 14, 5, 1, 0, time.UTC),
	}
}
