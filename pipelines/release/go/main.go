// Renders a chat template as Ollama does: Go's text/template over the messages of a conversation.
// Reads {"template": ..., "conversations": [[{"role", "content"}, ...], ...]} and writes a JSON list of texts.
package main

import (
	"encoding/json"
	"log"
	"os"
	"strings"
	"text/template"
)

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type input struct {
	Template      string       `json:"template"`
	Conversations [][]*message `json:"conversations"`
}

// Ollama joins neighbours of one role, and offers the texts of all system messages as .System.
func collated(messages []*message) (string, []*message) {
	var system []string
	var joined []*message
	for _, one := range messages {
		if one.Role == "system" {
			system = append(system, one.Content)
		}
		if last := len(joined) - 1; last >= 0 && joined[last].Role == one.Role {
			joined[last].Content += "\n\n" + one.Content
			continue
		}
		copied := *one
		joined = append(joined, &copied)
	}
	return strings.Join(system, "\n\n"), joined
}

func main() {
	log.SetFlags(0)
	var given input
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		log.Fatal(err)
	}
	parsed, err := template.New("").Option("missingkey=zero").Parse(given.Template)
	if err != nil {
		log.Fatal(err)
	}
	texts := []string{}
	for _, messages := range given.Conversations {
		system, joined := collated(messages)
		var written strings.Builder
		values := map[string]any{"System": system, "Messages": joined, "Response": ""}
		if err := parsed.Execute(&written, values); err != nil {
			log.Fatal(err)
		}
		texts = append(texts, written.String())
	}
	if err := json.NewEncoder(os.Stdout).Encode(texts); err != nil {
		log.Fatal(err)
	}
}
