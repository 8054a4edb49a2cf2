//! The default list of rules: known secrets, and exemptions for user content. Version 2026-12.1.
//!
//! It blocks no path that an application uses. A new entry must not match `tests/corpus/{allowed,applications}.txt`:
//!
//! - A dotfile is listed at any depth only if its content is always secret.
//! - A file with an ordinary name is listed in the root and in folders of deployments, such as `backups` or `config`. Deeper
//!   folders, buckets and upload folders contain files that users named.

use crate::curated::Section;

/// A glob for a file in the root or in a directory that usually contains configuration files.
macro_rules! configuration {
    ($name:literal) => {
        concat!(
            "/{,admin/,app/,application/,backend/,blog/,cms/,conf/,config/,etc/,html/,inc/,include/,includes/,old/,private/,",
            "public/,server/,shop/,site/,src/,web/,wordpress/,wp/,www/}",
            $name
        )
    };
}

/// A glob for a file in the root or in a directory that usually contains private keys.
macro_rules! key {
    ($name:literal) => {
        concat!(
            "/{,backup/,backups/,cert/,certificates/,certs/,conf/,config/,etc/,key/,keys/,private/,root/,secret/,secrets/,",
            "server/,ssh/,ssl/,tls/,www/}",
            $name
        )
    };
}

/// A glob for a file in the root or in a directory that usually contains database dumps.
macro_rules! dump {
    ($name:literal) => {
        concat!(
            "/{,admin/,app/,backup/,backups/,bak/,database/,databases/,db/,dump/,dumps/,mysql/,old/,site/,sql/,web/,www/}",
            $name
        )
    };
}

pub(crate) const DEFAULT_PATHS: &[Section] = &[
    Section {
        title: "Repositories",
        // All of the source and its history. `git~1` is `.git` on Windows.
        paths: &[
            "**/.{git,svn,hg,bzr}",
            "**/.{git,svn,hg,bzr}/**",
            "/.git[!a-z]*/**",
            "**/.git-credentials",
            configuration!(".gitconfig"),
            "/{,[!./]*/}cvs/{root,entries,repository}",
            "**/{git,svn,hg,ssh,aws,kube,azure,gitcre}~[1-9]/**",
        ],
    },
    Section {
        title: "Environment files",
        paths: &[
            "**/.env/**",
            "**/.env",
            "**/.env[!a-z]*",
            "**/.{envrc,flaskenv,environment}",
            "**/.envs/**",
            // Short names on Windows, and common other names.
            "/{env,envloc,envpro}~[1-9]{,.*}",
            "/{env,environment,_env,dotenv}.{txt,bak,old,save,local}",
            "/env.{dev,development,staging,prod,production}",
            configuration!(
                "{api,app,backend,config,database,db,dev,development,docker,local,mail,prod,production,secret,secrets,server,staging,test,web}.env"
            ),
        ],
    },
    Section {
        title: "Credentials",
        paths: &[
            "**/.{ssh,aws,gnupg,password-store}/**",
            "**/.azure/{accesstokens.json,azureprofile.json,msal_token_cache*,service_principal_entries*}",
            "**/.{kube/config,docker/config.json,docker/.token_seed,dockercfg,dockerconfigjson}",
            "**/.kube/config.*",
            "**/.config/{gcloud,gh,hub,rclone}/**",
            "**/.{composer/auth.json,m2/settings.xml,nuget/nuget.config,ivy2/.credentials,bundle/config,chef/knife.rb}",
            "**/.cargo/credentials{,.toml}",
            "**/.helm/repository/repositories.yaml",
            "**/.vagrant/**/private_key",
            "**/.{htpasswd,htdigest,htgroup}",
            "**/.htpasswd{.,-,_,~}*",
            "/{,[!./]*/}.htaccess{,.*,~}",
            "/{htpasswd,htaccess}{,.bak,.old,.txt}",
            "/{htacce,htpass}~[1-9]",
            "**/.{netrc,pgpass,pypirc,my.cnf,s3cfg,boto,vault-token,terraformrc,rclone.conf,credentials}",
            "**/.{pgpass,my.cnf,s3cfg,boto,netrc}.{bak,old}",
            "**/.{bash,zsh,sh,mysql,psql,sqlite,python,irb,pry,byebug,node_repl,rediscli}_history",
            configuration!("{_netrc,.npmrc,.ftpconfig,.remote-sync.json,sftp-config.json,sftp.json}"),
            "/{,[!./]*/}.vscode/{sftp,ftp-sync}.json",
            "/{,[!./]*/}.idea/{datasources,datasources.local,webservers,deployment}.xml",
            key!(
                "{credential,credentials,secret,secrets}.{json,yml,yaml,toml,xml,ini,txt,properties,conf,cfg,py,bak,old}"
            ),
            key!(
                "{creds,apikey,apikeys,api_key,api_keys,api-key,api-keys,private_key,aws_keys,access_keys}.{txt,json,csv,yml,yaml,ini}"
            ),
            key!("{credentials,secrets}.yml.enc"),
            key!("{rootkey,accesskeys,credentials}.csv"),
            key!("{password,passwords,passwd,htpasswd}.{txt,csv,xls,xlsx,ini,dat,lst}"),
            key!("{client_secret,service-account,service_account,serviceaccountkey,gcp-key,firebase-adminsdk}*.json"),
            key!("{gcp,google,aws,azure,firebase}{-,_}credentials*.json"),
            key!(
                "{aws{-,_,.}credentials,kube.config,wallet.dat,token.txt,master.passwd,service.pwd,local.settings.json}"
            ),
            key!("kubeconfig.{yml,yaml,json}"),
            key!("vault.{yml,yaml}"),
            "**/_vti_pvt/*.pwd",
            "/{filezilla,sitemanager,recentservers}.xml",
            "/{ws_ftp.ini,winscp.ini,putty.reg}",
        ],
    },
    Section {
        title: "Private keys and key stores",
        paths: &[
            key!("id_{rsa,dsa,ecdsa,ed25519}"),
            key!("id_{rsa,dsa,ecdsa,ed25519}.{bak,old,key,pem,txt,ppk,save,orig}"),
            key!("id_{rsa,dsa,ecdsa,ed25519}~"),
            key!(
                "{apache,ca,cert,certificate,client,domain,host,jwt,localhost,nginx,private,private-key,private_key,privatekey,privkey*,server,ssl,tls,web,www}.key"
            ),
            key!("{key,private,private-key,private_key,privatekey,privkey*,server,server-key,client-key,ssl}.pem"),
            key!("{server,client,keystore,cert,certificate,ssl,private}.{p12,pfx,pkcs12}"),
            key!("{keystore,truststore,server,release,app}.{jks,jceks,bcfks,keystore}"),
            key!("{keystore,truststore}"),
            key!("{krb5,http,host}.keytab"),
            key!("secring.{gpg,pgp,asc}"),
            "/*.ppk",
            "/authkey_*.p8",
            "/{,config/}master.key",
            "/{,storage/}oauth-private.key",
            "/{,config/}jwt/private.pem",
            "**/letsencrypt/**/privkey*.pem",
        ],
    },
    Section {
        title: "Dumps and databases",
        paths: &[
            dump!(
                "{all,backup,backups,customer,customers,data,database,databases,db,db_backup,db_dump,dbdump,dump,dumpfile,full,localhost,mysql,mysqldump,pg_dump,postgres,prod,production,site,sql,staging,user,users,website,wordpress,wp,www}.{sql,dump,dmp}"
            ),
            dump!(
                "{all,backup,backups,customer,customers,data,database,databases,db,db_backup,db_dump,dbdump,dump,dumpfile,full,localhost,mysql,mysqldump,pg_dump,postgres,prod,production,site,sql,staging,user,users,website,wordpress,wp,www}.sql{.{gz,bz2,xz,zip,zst,lz4,7z,rar,tar,tar.*,tgz,bak,old,orig,save,swp,txt,[0-9],enc,gpg},~}"
            ),
            dump!("{backup,database,db,dump,mysqldump}{-,_,.}*.sql{,.gz,.bz2,.xz,.zip,.zst,.bak}"),
            dump!("*{-,_,.}{backup,dump}.sql{,.gz,.bz2,.xz,.zip,.zst,.bak}"),
            dump!("{mysqldump,pg_dump,dbdump,dumpfile}{,.txt,.gz,.zip}"),
            "/backup~[1-9].{sql,zip}",
            dump!("{data,database,db,development,production,users}.{sqlite,sqlite2,sqlite3,db3,sqlite-journal}{,-*}"),
            "/{database,site,db,users}.{mdb,accdb,mdf,ldf,s3db,bson}",
            "/{dump,appendonly}.rdb",
        ],
    },
    Section {
        title: "Archives of whole sites",
        paths: &[
            dump!(
                "{backup,backups,bak,database,db,dump,htdocs,httpdocs,mysql,public_html,site,sql,webroot,website,wp-content,www,wwwroot}.{zip,tar,tgz,tbz,tbz2,txz,rar,7z}"
            ),
            dump!(
                "{backup,backups,bak,database,db,dump,htdocs,httpdocs,mysql,public_html,site,sql,webroot,website,wp-content,www,wwwroot}.tar.*"
            ),
            dump!("{db,dump}.gz"),
            dump!("{backup,backups}{-,_}[0-9]*.{zip,tar,tar.*,tgz,tbz,tbz2,txz,rar,7z,gz,bz2,xz,zst}"),
            dump!("{db,full,site,website,www}{-,_,.}backup.{zip,tar,tar.*,tgz,tbz,tbz2,txz,rar,7z,gz,bz2,xz,zst}"),
            "**/wp-content/{backup-db,updraft}/**",
            "**/wp-content/backups/*.{zip,gz,sql}",
        ],
    },
    Section {
        title: "Backups of scripts and configuration files",
        paths: &[
            configuration!(
                "*.{php,asp,aspx,jsp}.{bak,bak[0-9],bkp,backup,old,old[0-9],orig,orig[0-9],save,swp,swo,copy,tmp}"
            ),
            configuration!("*.{php,asp,aspx,jsp}~"),
            configuration!(
                "{config,configuration,settings,local_settings,database,db,connect,connection,parameters,application,appsettings,web,config.inc,localsettings}.{php,inc,ini,yml,yaml,json,xml,config,conf,cfg,py,rb,properties}.{bak,bak[0-9],bkp,backup,old,old[0-9],orig,orig[0-9],save,swp,swo,copy,tmp,txt,inc}"
            ),
            configuration!(
                "{config,configuration,settings,local_settings,database,db,connect,connection,parameters,application,appsettings,web,config.inc,localsettings}.{php,inc,ini,yml,yaml,json,xml,config,conf,cfg,py,rb,properties}{~,-*,_*}"
            ),
            configuration!("{config,configuration,settings,database,db}.{bak,old,orig,save,swp,inc}"),
            "/{,[!./]*/}.*.{php,asp,aspx,jsp,inc,env,ini,yml,yaml,json,xml,config,conf,cfg,py,rb}.sw[nop]",
            configuration!("#*.{php,inc,ini,yml,yaml,json,conf,py,rb}#"),
        ],
    },
    Section {
        title: "Configuration files with passwords",
        paths: &[
            // WordPress
            "/{,[!./]*/}wp-config",
            "/{,[!./]*/}wp-config.php*",
            "/{,[!./]*/}wp-config.{bak,bak.php,backup,inc,old,orig,save,swp,txt,zip}",
            "/{,[!./]*/}wp-config{-,_, ,+}*.{php,bak,old,txt,zip}",
            "/wp-con~[1-9].*",
            "!**/{wiki,tag,tags,tagged,topic,topics}/wp-config.php",
            // ASP.NET and IIS. `inetpub` is the folder of IIS.
            configuration!("web.config"),
            configuration!("{web.{debug,release,staging,production},connectionstrings,machine,nuget,packages}.config"),
            "/{web,appset}~[1-9].*",
            "**/{inetpub,wwwroot}/**/web.config",
            "/{,[!./]*/}app_data/**",
            // Java
            "/web-inf/**",
            "/[!./]*/web-inf/**",
            "/{,[!./]*/}meta-inf/{context,persistence}.xml",
            "/{,conf/}{tomcat-users,hibernate.cfg}.xml",
            "/conf/{server,context}.xml",
            "/{,conf/,config/}{jdbc,db,database,hibernate}.properties",
            // PHP, Python, Ruby
            "/{,app/}config/{database,parameters,secrets}.{yml,yaml,ini}",
            configuration!("{database,db,smtp}.{inc,ini,yml,yaml,conf,cnf,cfg}"),
            configuration!("parameters.ini"),
            configuration!("local_settings.py"),
            "/config/initializers/secret_token.rb",
            "/{,[!./]*/}{localsettings,sites/*/settings,sites/*/settings.local}.php{,~,.*}",
            "**/app/etc/{env.php,local.xml}{,.*}",
            configuration!("{php,my,redis}.{ini,cnf,conf}"),
            // Terraform
            "**/terraform.tfstate{,.backup}",
            "/{,[!./]*/}.terraform/**",
            "/{,*.}{terraform,auto}.tfvars",
            "/{dev,development,prod,production,staging,main}{,.auto}.tfvars",
        ],
    },
    Section {
        title: "Logs and memory dumps that contain request data",
        paths: &[
            "/{,[!./]*/}storage/logs/laravel{,-*}.log",
            "/{,[!./]*/}wp-content/debug.log{,.*}",
            "/{,[!./]*/}actuator/heapdump{,.*}",
            "/heapdump{,.dump,.hprof}",
            "/{java_pid*.hprof,core.dump}",
            // Apache serves these pages to loopback clients only, and the proxy can be one.
            "/{server-status,server-info}/**",
        ],
    },
    Section {
        title: "Other files that are never published on purpose",
        paths: &[
            "/etc/{passwd,shadow,gshadow,sudoers}",
            "/file:/**/etc/{passwd,shadow}",
            // A filter that removes `./` or `../` once makes it a traversal.
            "**/.../**/etc/{passwd,shadow}",
            "/proc/{self,[0-9]*}/{environ,cmdline,maps,mem,cwd/**,fd/**,root/**}",
            "/{,c:/}{windows,winnt}/{win.ini,system.ini,system32}",
            "/@fs/{etc,proc,sys}/**",
            // Kubernetes mounts secrets in `..data`.
            "**/..data/**",
            "**/vendor/phpunit/**/eval-stdin.php",
            // A script name after a file: PHP then executes, and so prints, the file (`cgi.fix_pathinfo`). The extensions are
            // at least as long as `.php`, so that the prefilter does not search for `.php`.
            "**/*.{env,pem,key,sql,sqlite,sqlite3,bak,old,orig,save,swp,ini,conf,cfg,config,yml,yaml,log,inc,tfstate,lock}/*.php",
        ],
    },
    Section {
        title: "Exemptions for repository browsers",
        // Below a prefix as well. The first segment has no dot, because PHP prints the file `/.env` for a request to a script
        // below `/.env/`.
        paths: &[
            // GitLab
            "!/[!./]*/**/-/{blob,raw,tree,blame,commits,edit,create,new,find_file,refs,archive,network,snippets,jobs,wikis}/**",
            "!/-/{snippets,ide/project}/**",
            "!/[!./]*/[!./]*/**/uploads/????????????????????????????????/*",
            "!/-/project/*/uploads/*/*",
            // Gitea, Forgejo, Gogs
            "!/[!./]*/**/{src,raw,blame,commits,media,render,archive}/{branch,commit,tag}/**",
            "!/[!./]*/[!./]*/{src,raw}/{main,master,develop,trunk}/**",
            // klaus
            "!/[!./]*/{blob,raw,tree,blame,commit}/{main,master,head,develop,trunk}/**",
            "!/[!./]*/**/_{edit,new,delete,upload,preview,diffpatch,cherrypick}/**",
            // GitHub, GitBucket, SourceHut, Hugging Face
            "!/[!./]*/[!./]*/{blob,tree,raw,plain,resolve,blame,commits,edit}/[!./]*/**",
            "!/[!./]*/[!./]*/[!./]*/{blob,tree,raw,plain,resolve,blame,commits,edit}/[!./]*/**",
            // Bitbucket
            "!/[!./]*/**/repos/*/{browse,raw,diff,files,blame,commits}/**",
            // cgit, Gerrit, Gitiles, Phabricator, Trac, OneDev, hgweb, Redmine, Subversion, ViewVC, gitweb
            "!/[!./]*/**/*.git/{tree,plain,blame,log,commit,diff,about}/**",
            "!/[!./]*.git/{tree,plain,blame,log,commit,diff,about}/**",
            "!/{cgit,cgi-bin/cgit,cgi-bin/cgit.cgi,git}/[!./]*/**/{tree,plain,blame,log,commit,diff}/**",
            "!/{c,plugins/gitiles,source,diffusion,svn,xref,viewvc,gitweb}/[!./]*/**",
            "!/{,cgi-bin/}{viewvc,gitweb}.cgi/[!./]*/**",
            "!/{,[!./]*/,[!./]*/[!./]*/}{browser,export}/[!./]*/**",
            "!/[!./]*/**/~{files,raw,commits,blob}/**",
            "!/[!./]*/{file,raw-file,annotate,log,diff,comparison}/{tip,default,????????????}/**",
            "!/{,[!./]*/}projects/*/repository/**",
            // Files in packages: jsDelivr, unpkg, docs.rs
            "!/{,npm/,gh/*/,@*/,npm/@*/}[!./]*@[0-9]*/**",
            "!/crate/*/*/source/**",
            // APIs
            "!/{,[!./]*/}api/v[1-9]/{projects,repos}/**",
            "!/{,api/v3/}repos/*/*/contents/**",
            "!/{,[!./]*/}rest/api/{latest,[1-9].[0-9]}/projects/*/repos/**",
            "!/{,[!./]*/}api/packages/[!./]*/[!./]*/**",
        ],
    },
    Section {
        title: "Exemptions for user files",
        paths: &[
            // WebDAV. Nextcloud, ownCloud and Seafile.
            "!/{,[!./]*/}{remote,public}.php/**",
            "!/{dav,webdav,seafdav,seafhttp}/**",
            "!/{s/*/download,lib/*/file}/**",
            // Chat and mail: Matrix, Zulip, Rocket.Chat, XMPP, SOGo
            "!/_matrix/**",
            "!/{user_uploads,file-upload,sogo/so}/**",
            "!/{upload,file_share}/*/**",
            // Jupyter, File Browser
            "!/{,[!./]*/,[!./]*/[!./]*/}api/{contents,resources,raw,public/dl}/**",
            "!/{,jupyter/,user/*/,[!./]*/user/*/}{files,tree,edit,notebooks,view,lab/tree,lab/workspaces/*/tree,doc/tree}/**",
            "!/[!./]*/**/lab/tree/**",
            // Gradio, MLflow
            "!/{,gradio_api/}file=/**",
            "!/{api,ajax-api}/2.0/mlflow-artifacts/artifacts/**",
            // Attachments: Redmine, OpenProject, Jira, Confluence, Trac, Phabricator, Odoo, Moodle, Rails
            "!/{,[!./]*/}{attachments,secure/attachment,download/attachments,raw-attachment,attachment,file/data}/*/**",
            "!/{,[!./]*/}{pluginfile,draftfile,tokenpluginfile}.php/**",
            "!/web/content/*/**",
            "!/rails/active_storage/**",
            // Artifacts: Jenkins, GoCD, TeamCity, Nexus, Artifactory
            "!/{,[!./]*/}{job,view}/*/**/{ws,artifact}/**",
            "!/{go/files,repository,artifactory}/[!./]*/**",
            "!/{,[!./]*/}app/rest/builds/*/artifacts/**",
            // Names of pages: MediaWiki, Stack Overflow, Kiwix, generated documentation
            "!**/.{env,htaccess,htpasswd}*.html",
            "!**/{wiki,w,page,pages,tag,tags,tagged,topic,topics,hashtag,search}/.{aws,bzr,git,hg,htaccess,htpasswd,ssh,svn}",
            "!**/{tag,tags,tagged,topic,topics,hashtag}/.env",
            "!/[!./]*/[!./]*/wiki/.env",
            "!/{,w/,wiki/,mediawiki/}index.php/.{aws,env,git,htaccess,htpasswd,ssh,svn}",
            "!/{,[!./]*/}{content/*,*/a}/.{aws,env,git,htaccess,htpasswd,ssh,svn}",
        ],
    },
    Section {
        title: "Path traversal",
        // No exemption allows these paths.
        paths: &[
            // Browsers resolve dot segments before they send a path, so a remaining one, in any spelling, is an attempt at path
            // traversal. The braces are needed because globset tries no glob that ends in a name for a path that ends in `..`.
            "**/..{,/**}",
            // It becomes `../` if a filter removes `../` from it once.
            "**/....//**",
            // PHP prints the file for a script below it, although the path looks like one of an exemption.
            "**/.env{,.*}/**/*.php",
            "/{,[!./]*/}wp-config.php*/*/**",
            "/*.{env,pem,key,sql,sqlite,sqlite3,bak,old,orig,save,swp,tfstate}/**/*.php",
        ],
    },
];
